#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/atomic_file.h"
#include "tests/golden.h"

namespace ferro::testing {

/// One F32 tensor of a safetensors file, for tests that do not link model/.
struct GoldenTensor {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

inline GoldenTensor read_golden_tensor(const std::filesystem::path& file, const std::string& name) {
  const std::string bytes = read_file(file);
  std::uint64_t header_length = 0;
  std::memcpy(&header_length, bytes.data(), sizeof(header_length));
  const nlohmann::json entry = nlohmann::json::parse(bytes.substr(8, header_length)).at(name);
  if (entry.at("dtype") != "F32") throw std::runtime_error(name + " is not F32");
  GoldenTensor tensor;
  tensor.shape = entry.at("shape").get<std::vector<std::int64_t>>();
  const std::size_t begin = entry.at("data_offsets").at(0), end = entry.at("data_offsets").at(1);
  tensor.values.resize((end - begin) / sizeof(float));
  std::memcpy(tensor.values.data(), bytes.data() + 8 + header_length + begin, end - begin);
  return tensor;
}

}  // namespace ferro::testing
