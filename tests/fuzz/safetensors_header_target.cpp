#include "model/safetensors_header.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using ferro::testing::must_hold;
  ferro::testing::reads_or_refuses([&] {
    const ferro::SafetensorsHeader header =
        ferro::read_safetensors_header(std::as_bytes(std::span(data, size)), "input");
    std::uint64_t bytes = 0;
    for (const auto& [name, entry] : header.entries) {
      must_hold(entry.begin <= entry.end && entry.end <= size - header.data_begin,
                "a tensor outside the file");
      bytes += entry.end - entry.begin;
    }
    must_hold(header.data_begin + bytes == size, "tensors do not cover the data");
  });
  return 0;
}
