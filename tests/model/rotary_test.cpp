#include <cmath>

#include <catch2/catch.hpp>

#include "model/rotary_tables.h"

namespace ferro {
namespace {

struct Frequency {
  double theta;
  std::int64_t width;
  std::size_t pair;
  float value;
};

}  // namespace

TEST_CASE("rotary frequencies have the bits of fp32 arithmetic") {
  // By PyTorch 2.11: 1.0 / (theta ** (torch.arange(0, width, 2, dtype=torch.float) / width)). Each is another
  // float when the power is taken in fp64 and rounded.
  const Frequency expected[] = {
      {5e5, 80, 2, 0x1.09a838p-1F},  {5e5, 80, 5, 0x1.8d2760p-3F},   {5e5, 80, 39, 0x1.74a93ap-19F},
      {1e6, 128, 1, 0x1.9c975ap-1F}, {1e6, 128, 10, 0x1.d8ffacp-4F}, {1e6, 128, 55, 0x1.d44e64p-18F},
      {1e4, 40, 1, 0x1.430cd6p-1F},  {1e4, 40, 18, 0x1.0763f4p-12F}, {1e4, 32, 5, 0x1.ccab84p-5F},
  };
  for (const Frequency& one : expected) {
    CAPTURE(one.theta, one.width, one.pair);
    CHECK(inverse_frequencies(one.theta, one.width)[one.pair] == one.value);
  }
}

TEST_CASE("angles of far positions are rounded to fp32 before their cosine is taken") {
  RotaryTableWriter tables(2, 80);
  const std::vector<float> frequencies = inverse_frequencies(5e5, 80);
  for (std::int64_t row = 0; row < 2; ++row)
    for (std::int64_t pair = 0; pair < 40; ++pair)
      tables.set(row, pair, row == 0 ? 6019 : 30011, frequencies[static_cast<std::size_t>(pair)]);
  const Rotary rotary = std::move(tables).finish(at::kCPU);
  // By PyTorch 2.11: cos and sin of the fp32 product. Of the exact product: cos .97782072 and -.24687652.
  const auto cos = rotary.cos.accessor<float, 2>(), sin = rotary.sin.accessor<float, 2>();
  CHECK(cos[0][1] == Approx(0.9778167605400085).margin(1e-7));
  CHECK(sin[0][1] == Approx(0.20946204662322998).margin(1e-7));
  CHECK(cos[1][2] == Approx(-0.2471359670162201).margin(1e-7));
  CHECK(sin[1][42] == Approx(0.9689807891845703).margin(1e-7));
}

}  // namespace ferro
