#include "data/csv_rows.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace ferro {

CsvScanner::CsvScanner(std::string_view text, std::string file) : text_(text), file_(std::move(file)) {
  if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;
}

bool CsvScanner::take_line_end() {
  if (text_.substr(at_).starts_with("\r\n")) ++at_;
  if (at_ < text_.size() && text_[at_] != '\n') return false;
  at_ = std::min(at_ + 1, text_.size());
  ++line_;
  return true;
}

std::string CsvScanner::take_quoted() {
  const std::int64_t begin = line_;
  std::string field;
  for (++at_; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (c == '\n') ++line_;
    if (c != '"') {
      field += c;
      continue;
    }
    if (at_ + 1 < text_.size() && text_[at_ + 1] == '"') {
      field += '"';
      ++at_;
      continue;
    }
    ++at_;
    const bool ended = at_ == text_.size() || text_[at_] == ',' || text_[at_] == '\n' || text_[at_] == '\r';
    if (!ended) fail(ErrorCode::kData, "{}: line {}: text after a closing quote", file_, line_);
    return field;
  }
  fail(ErrorCode::kData, "{}: line {}: the file ends inside a quoted field", file_, begin);
}

std::string CsvScanner::take_plain() {
  const std::size_t begin = at_;
  while (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '\n') ++at_;
  std::size_t end = at_;
  if (at_ < text_.size() && text_[at_] == '\n' && end > begin && text_[end - 1] == '\r') --at_, --end;
  return std::string(text_.substr(begin, end - begin));
}

std::optional<CsvScanner::Record> CsvScanner::next() {
  while (at_ < text_.size() && (text_[at_] == '\n' || text_.substr(at_).starts_with("\r\n"))) take_line_end();
  if (at_ == text_.size()) return std::nullopt;
  Record record;
  record.line = line_;
  while (true) {
    const bool quoted = at_ < text_.size() && text_[at_] == '"';
    record.fields.push_back(quoted ? take_quoted() : take_plain());
    if (at_ < text_.size() && text_[at_] == ',') {
      ++at_;
      continue;
    }
    if (!take_line_end()) fail(ErrorCode::kData, "{}: line {}: a stray carriage return", file_, line_);
    return record;
  }
}

}  // namespace ferro
