#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ferro {

/// Cuts the text of a JSON array, or of JSON lines (objects, one after the other), into the texts of its rows
/// without reading what is in them: no recursion, no copy, so size and nesting of a row cost nothing.
class JsonRowScanner {
 public:
  /// `file` is named in errors. Error{kData} when the text is neither.
  JsonRowScanner(std::string_view text, std::string file);

  struct RowText {
    std::string_view text;
    std::size_t offset = 0;  ///< Byte in the file.
    std::size_t depth = 0;   ///< Deepest nesting of arrays and objects in it.
  };
  /// The next row, or nothing at the end. Error{kData} with line, byte offset and number of whole rows when
  /// the text breaks off or is not JSON at this level.
  std::optional<RowText> next();

 private:
  [[noreturn]] void broken(std::size_t offset, std::string_view what) const;
  std::size_t line_of(std::size_t offset) const;
  void skip_space();
  void begin_row();
  std::size_t end_of_string(std::size_t quote) const;
  RowText scan_row();

  std::string_view text_;
  std::string file_;
  std::size_t at_ = 0;
  std::int64_t rows_ = 0;
  bool lines_ = false, ended_ = false;
};

}  // namespace ferro
