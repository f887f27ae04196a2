#include "data/face_labels.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "data/labelled_faces.h"

namespace ferro {
namespace {

constexpr std::int64_t kMaxCopies = 1000;

struct SplitText {
  std::string sft, rl;
};

void append_row(std::string& text, const nlohmann::ordered_json& row) {
  text += text.empty() ? "[\n" : ",\n";
  text += row.dump();
}

using Votes = std::vector<std::pair<std::string, std::int64_t>>;

Votes usable_votes(const LabelledFace& face) {
  Votes votes;
  for (const auto& [label, count] : face.votes) {
    if (count > 0 && label != "unknown" && label != "NF") votes.emplace_back(label, count);
  }
  return votes;
}

std::string draw_label(const Votes& votes, KeyedRandom& random) {
  std::uint64_t total = 0;
  for (const auto& [label, count] : votes) total += static_cast<std::uint64_t>(count);
  std::uint64_t ticket = random.below(total);
  for (const auto& [label, count] : votes) {
    if (ticket < static_cast<std::uint64_t>(count)) return label;
    ticket -= static_cast<std::uint64_t>(count);
  }
  fail(ErrorCode::kInternal, "ticket {} of {} votes", ticket, total);
}

class Writer {
 public:
  Writer(const FaceLabelsOptions& options, FaceLabelsReport& report) : options_(options), report_(report) {}

  /// Why the face cannot be used, if so; else its rows are appended.
  std::optional<std::pair<std::string, std::string>> add(const LabelledFace& face) {
    const bool drawn = options_.copies > 0 &&
                       std::find(options_.drawn_splits.begin(), options_.drawn_splits.end(), face.split) !=
                           options_.drawn_splits.end();
    const Votes votes = drawn ? usable_votes(face) : Votes{{face.label, 1}};
    if (votes.empty()) return std::pair("no_votes", "no vote for any label, unknown and NF apart");
    if (options_.answer == AnswerStyle::kReasoning) {
      for (const auto& [label, count] : votes) {
        if (canonical_expression(label).empty()) {
          return std::pair("unknown_label",
                           fmt::format("no action units are known for the label \"{}\"", label));
        }
      }
    }
    FaceLabelsReport::Split& split = report_.splits[face.split];
    ++split.faces;
    const std::int64_t copies = drawn ? options_.copies : 1;
    for (std::int64_t copy = 0; copy < copies; ++copy) add_copy(face, votes, copy, split);
    return std::nullopt;
  }

  void write() {
    for (auto& [split, text] : texts_) {
      write_file_atomically(options_.output / fmt::format("sft_{}.json", split), text.sft + "\n]\n");
      write_file_atomically(options_.output / fmt::format("rl_{}.json", split), text.rl + "\n]\n");
    }
  }

 private:
  void add_copy(const LabelledFace& face, const Votes& votes, std::int64_t copy,
                FaceLabelsReport::Split& split) {
    KeyedRandom random(options_.seed, RandomPurpose::kLabels,
                       {static_cast<std::uint64_t>(face.row), static_cast<std::uint64_t>(copy)});
    const std::string label = draw_label(votes, random);
    const std::string response =
        options_.answer == AnswerStyle::kReasoning
            ? reasoning_text(label, action_units_of(label), random, options_.reasoning)
            : fmt::format("<answer>{}</answer>", label);
    SplitText& text = texts_[face.split];
    append_row(text.sft,
               {{"image_path", face.path}, {"question", options_.question}, {"response", response}});
    append_row(text.rl, {{"image_path", face.path}, {"problem", options_.question}, {"solution", label}});
    ++split.rows;
    ++split.rows_of_label[label];
  }

  const FaceLabelsOptions& options_;
  FaceLabelsReport& report_;
  std::map<std::string, SplitText> texts_;
};

void check(const FaceLabelsOptions& options, const LabelledFaces& source) {
  if (options.copies < 0 || options.copies > kMaxCopies) {
    fail(ErrorCode::kUsage, "copies lies within 0 and {}, not {}", kMaxCopies, options.copies);
  }
  const bool without_votes = !source.faces.empty() && source.faces.front().votes.empty();
  if (options.copies > 0 && without_votes) {
    fail(ErrorCode::kData, "{}: labels can only be drawn from votes_<label> columns, and there are none",
         options.input.string());
  }
}

}  // namespace

FaceLabelsReport write_face_labels(const FaceLabelsOptions& options) {
  LabelledFaces source = read_labelled_faces(options.input, options.image_root, options.default_split);
  check(options, source);
  FaceLabelsReport report;
  report.image_root = source.image_root;
  report.set_aside = std::move(source.set_aside);
  Writer writer(options, report);
  for (const LabelledFace& face : source.faces) {
    if (auto problem = writer.add(face)) {
      report.set_aside.push_back({options.input.string(), face.row, problem->first, problem->second});
    }
  }
  if (report.splits.empty()) {
    const std::string first = report.set_aside.empty() ? "there are none" : report.set_aside.front().detail;
    fail(ErrorCode::kData, "{}: no face can be used ({} set aside): {}", options.input.string(),
         report.set_aside.size(), first);
  }
  create_folders(options.output);
  writer.write();
  return report;
}

}  // namespace ferro
