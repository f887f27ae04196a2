#include <algorithm>
#include <array>
#include <optional>

#include "reward/classification_metrics.h"
#include "reward/python_text.h"

namespace ferro {
namespace {

constexpr std::string_view kKelvinSign = "\xE2\x84\xAA";  // U+212A
constexpr std::string_view kLongS = "\xC5\xBF";           // U+017F

char ascii_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// Python's str.lower() as far as ASCII labels can tell: the Kelvin sign is the one other character that
/// becomes a plain letter.
std::string lower(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    if (text.starts_with(kKelvinSign)) {
      result += 'k';
      text.remove_prefix(kKelvinSign.size());
    } else {
      result += ascii_lower(text.front());
      text.remove_prefix(1);
    }
  }
  return result;
}

/// Bytes of the tag that `text` starts with, letter case ignored as Python's re.IGNORECASE does (the long s
/// is an s there); 0: none.
std::size_t tag_length(std::string_view text, std::string_view tag) {
  std::size_t at = 0;
  for (const char c : tag) {
    if (at < text.size() && ascii_lower(text[at]) == c) {
      at += 1;
    } else if (c == 's' && text.substr(at).starts_with(kLongS)) {
      at += kLongS.size();
    } else {
      return 0;
    }
  }
  return at;
}

struct TagPlace {
  std::size_t begin = 0, end = 0;
};

std::optional<TagPlace> find_tag(std::string_view text, std::string_view tag, std::size_t from) {
  for (std::size_t at = text.find('<', from); at != std::string_view::npos; at = text.find('<', at + 1)) {
    if (const std::size_t length = tag_length(text.substr(at), tag)) return TagPlace{at, at + length};
  }
  return std::nullopt;
}

/// First match of `<answer>\s*(.*?)\s*</answer>`, letter case ignored, dot not matching newlines. An opening
/// tag whose nearest closing tag lies behind an inner newline cannot match at all; the search goes on at the
/// next opening tag. Every position looked for only moves forward, so the whole search is linear.
std::optional<std::string_view> lenient_answer(std::string_view text) {
  std::optional<TagPlace> close;
  std::size_t content_end = 0,
              newline =
                  0;  // Of the text before `close`: without trailing blanks; at or after the content's begin.
  for (auto open = find_tag(text, "<answer>", 0); open; open = find_tag(text, "<answer>", open->end)) {
    if (!close || close->begin < open->end) {
      close = find_tag(text, "</answer>", open->end);
      if (!close) return std::nullopt;
      content_end = strip_right(text.substr(0, close->begin)).size();
    }
    const std::size_t begin =
        close->begin - strip_left(text.substr(open->end, close->begin - open->end)).size();
    if (begin >= content_end) return std::string_view{};
    if (newline < begin) newline = std::min(text.find('\n', begin), text.size());
    if (newline >= content_end) return text.substr(begin, content_end - begin);
  }
  return std::nullopt;
}

struct SynonymRow {
  std::string_view label;
  std::array<std::string_view, 2> synonyms;  // Unused places are empty.
};

// Source: FERBench's evaluator, one table a data set, in its order.
constexpr std::array kCommonRows{
    SynonymRow{"disgust", {"revulsion", "repulsion"}}, SynonymRow{"fear", {"terror", "fright"}},
    SynonymRow{"neutral", {"normal", "calm"}}, SynonymRow{"neutral", {"blank", ""}},
    SynonymRow{"surprise", {"shock", "astonishment"}}};

struct SynonymTable {
  std::string_view dataset;
  std::array<SynonymRow, 2> before_disgust, after_fear;
};

constexpr std::array kTables{
    SynonymTable{"ferplus",
                 {SynonymRow{"angry", {"anger", ""}}, SynonymRow{"contempt", {"scorn", "disdain"}}},
                 {SynonymRow{"happy", {"joy", "happiness"}}, SynonymRow{"sad", {"sorrow", "unhappy"}}}},
    SynonymTable{"affectnet",
                 {SynonymRow{"anger", {"angry", "mad"}}, SynonymRow{"contempt", {"scorn", "disdain"}}},
                 {SynonymRow{"happiness", {"joy", "happy"}}, SynonymRow{"sadness", {"sad", ""}}}},
    SynonymTable{"rafdb",
                 {SynonymRow{"anger", {"angry", ""}}, SynonymRow{}},
                 {SynonymRow{"happiness", {"joy", "happy"}}, SynonymRow{"sadness", {"sad", ""}}}},
    SynonymTable{"sfew",
                 {SynonymRow{"angry", {"anger", "mad"}}, SynonymRow{}},
                 {SynonymRow{"happy", {"joy", "happiness"}}, SynonymRow{"sad", {"sorrow", "unhappy"}}}}};

std::vector<SynonymRow> synonym_rows(std::string_view dataset) {
  const auto table = std::find_if(kTables.begin(), kTables.end(), [&](const SynonymTable& t) {
    return dataset.starts_with(t.dataset) &&
           (dataset.size() == t.dataset.size() || dataset[t.dataset.size()] == '_');
  });
  std::vector<SynonymRow> rows(kCommonRows.begin(), kCommonRows.end());
  if (table == kTables.end()) return rows;
  rows.insert(rows.begin() + 2, table->after_fear.begin(), table->after_fear.end());
  rows.insert(rows.begin(), table->before_disgust.begin(), table->before_disgust.end());
  return rows;
}

/// An empty candidate names nothing: it would be found in any text.
bool names(const std::string& lowered, const std::string& candidate) {
  return !candidate.empty() && lowered.find(lower(candidate)) != std::string::npos;
}

}  // namespace

std::string extract_label(std::string_view response, std::span<const std::string> candidates,
                          std::string_view dataset) {
  if (const auto answer = lenient_answer(response)) {
    const std::string lowered = lower(*answer);
    for (const std::string& candidate : candidates) {
      if (names(lowered, candidate)) return candidate;
    }
  }
  const std::string lowered = lower(response);
  for (const std::string& candidate : candidates) {
    if (names(lowered, candidate)) return candidate;
  }
  for (const SynonymRow& row : synonym_rows(dataset)) {
    if (std::find(candidates.begin(), candidates.end(), row.label) == candidates.end()) continue;
    for (const std::string_view synonym : row.synonyms) {
      if (!synonym.empty() && lowered.find(synonym) != std::string::npos) return std::string(row.label);
    }
  }
  return "unknown";
}

}  // namespace ferro
