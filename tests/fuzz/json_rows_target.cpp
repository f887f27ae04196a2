#include "data/dataset_reader.h"
#include "tests/fuzz/memory_file.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static ferro::testing::MemoryFile file;
  const std::filesystem::path& path = file.hold(ferro::testing::text_of(data, size));
  using ferro::RowKind;
  for (const RowKind kind : {RowKind::kSft, RowKind::kRl, RowKind::kBenchmark}) {
    for (const bool require_images : {false, true}) {
      ferro::testing::reads_or_refuses([&] {
        const ferro::Dataset dataset = ferro::read_dataset(
            path, kind, {.image_root = "absent", .require_images = require_images, .max_rows = 0});
        ferro::testing::must_hold(!dataset.rows.empty(), "a data set without rows");
      });
    }
  }
  ferro::testing::reads_or_refuses([&] { ferro::detect_row_kind(path); });
  return 0;
}
