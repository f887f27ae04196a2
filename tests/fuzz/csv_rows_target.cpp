#include "data/csv_rows.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ferro::testing::reads_or_refuses([&] {
    ferro::CsvScanner scanner(ferro::testing::text_of(data, size), "input");
    std::size_t bytes = 0;
    std::int64_t line = 0;
    while (const auto record = scanner.next()) {
      ferro::testing::must_hold(record->line > line, "a record on the line of the one before");
      line = record->line;
      for (const std::string& field : record->fields) bytes += field.size();
    }
    ferro::testing::must_hold(bytes <= size, "fields hold more than the file");
  });
  return 0;
}
