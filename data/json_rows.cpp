#include "data/json_rows.h"

#include <algorithm>
#include <cctype>
#include <utility>
#include <vector>

#include "core/error.h"

namespace ferro {
namespace {

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool ends_scalar(char c) {
  return is_space(c) || c == ',' || c == ']' || c == '}';
}

}  // namespace

JsonRowScanner::JsonRowScanner(std::string_view text, std::string file)
    : text_(text), file_(std::move(file)) {
  if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;
  skip_space();
  if (at_ == text_.size()) broken(at_, "the file is empty");
  lines_ = text_[at_] == '{';
  if (!lines_ && text_[at_] != '[') broken(at_, "neither a JSON array nor JSON lines begins here");
  if (!lines_) ++at_;
}

void JsonRowScanner::broken(std::size_t offset, std::string_view what) const {
  fail(ErrorCode::kData, "{}:{}: not JSON at byte {} of {}, after {} whole rows: {}", file_, line_of(offset),
       offset, text_.size(), rows_, what);
}

std::size_t JsonRowScanner::line_of(std::size_t offset) const {
  return 1 + static_cast<std::size_t>(
                 std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(offset), '\n'));
}

void JsonRowScanner::skip_space() {
  while (at_ < text_.size() && is_space(text_[at_])) ++at_;
}

std::optional<JsonRowScanner::RowText> JsonRowScanner::next() {
  if (ended_) return std::nullopt;
  skip_space();
  if (lines_) {
    ended_ = at_ == text_.size();
    if (ended_) return std::nullopt;
    if (text_[at_] != '{') broken(at_, "a row must be an object");
  } else {
    begin_row();
    if (ended_) return std::nullopt;
  }
  const RowText row = scan_row();
  ++rows_;
  return row;
}

void JsonRowScanner::begin_row() {
  const auto more = [this] {
    skip_space();
    if (at_ == text_.size()) broken(at_, "the file is truncated: the array has no end");
  };
  more();
  if (text_[at_] == ']') {
    ++at_;
    skip_space();
    if (at_ != text_.size()) broken(at_, "text follows the array");
    ended_ = true;
    return;
  }
  if (rows_ == 0) return;
  if (text_[at_] != ',') broken(at_, "expected `,` or `]`");
  ++at_;
  more();
  if (text_[at_] == ']') broken(at_, "a row must follow `,`");
}

std::size_t JsonRowScanner::end_of_string(std::size_t quote) const {
  for (std::size_t i = quote + 1; i < text_.size(); ++i) {
    const char c = text_[i];
    if (c == '"') return i + 1;
    if (c == '\\') ++i;
    if (static_cast<unsigned char>(c) < 0x20) broken(i, "a control character inside a string");
  }
  broken(quote, "the string that begins here has no end: it lacks a quote, or the file is truncated");
}

JsonRowScanner::RowText JsonRowScanner::scan_row() {
  const std::size_t begin = at_;
  std::vector<char> open;
  std::size_t depth = 0;
  do {
    if (at_ == text_.size())
      broken(begin, "the row that begins here has no end: it lacks a bracket, or the file is truncated");
    const char c = text_[at_];
    if (c == '"') {
      at_ = end_of_string(at_);
      continue;
    }
    if (c == '{' || c == '[') {
      open.push_back(c);
      depth = std::max(depth, open.size());
    } else if (c == '}' || c == ']') {
      if (open.empty() || open.back() != (c == '}' ? '{' : '['))
        broken(at_, fmt::format("unexpected `{}`", c));
      open.pop_back();
    } else if (open.empty()) {
      while (at_ < text_.size() && !ends_scalar(text_[at_])) ++at_;
      if (at_ == begin) broken(at_, "expected a row");
      if (at_ == text_.size()) broken(at_, "the file is truncated");
      break;
    }
    ++at_;
  } while (!open.empty());
  return {text_.substr(begin, at_ - begin), begin, depth};
}

}  // namespace ferro
