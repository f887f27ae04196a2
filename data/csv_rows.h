#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ferro {

/// Records of a comma-separated file (RFC 4180: quotes, doubled quotes, line breaks inside quotes; LF or
/// CRLF; a byte order mark is dropped; blank lines are skipped).
class CsvScanner {
 public:
  /// `file` is named in errors. The text must outlive the scanner.
  CsvScanner(std::string_view text, std::string file);

  struct Record {
    std::vector<std::string> fields;
    std::int64_t line = 0;  ///< Where it begins, from 1.
  };
  /// The next record, or nothing at the end. Error{kData} with the line for a quote that never ends or is
  /// followed by text.
  std::optional<Record> next();

 private:
  std::string take_quoted();
  std::string take_plain();
  bool take_line_end();
  std::string_view text_;
  std::string file_;
  std::size_t at_ = 0;
  std::int64_t line_ = 1;
};

}  // namespace ferro
