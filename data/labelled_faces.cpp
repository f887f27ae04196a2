#include "data/labelled_faces.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "core/atomic_file.h"
#include "core/error.h"
#include "data/csv_rows.h"
#include "data/utf8.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxTableBytes = std::uint64_t{1} << 32;
constexpr std::int64_t kMaxVotes = 1'000'000'000;
constexpr std::string_view kVotesPrefix = "votes_";

bool is_split_name(const std::string& name) {
  const auto allowed = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
  };
  return !name.empty() && name.size() <= 64 && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), allowed);
}

std::optional<std::size_t> column_of(const std::vector<std::string>& header,
                                     std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto found = std::find(header.begin(), header.end(), name);
    if (found != header.end()) return static_cast<std::size_t>(found - header.begin());
  }
  return std::nullopt;
}

struct Problem {
  std::string reason, detail;
};

class CsvFaces {
 public:
  CsvFaces(const fs::path& file, const fs::path& image_root, std::string default_split)
      : file_(file.string()),
        default_split_(std::move(default_split)),
        text_(read_file(file, kMaxTableBytes)) {
    out_.image_root = image_root.empty() ? file.parent_path() : image_root;
  }

  LabelledFaces read() {
    CsvScanner scanner(text_, file_);
    read_header(scanner);
    for (std::int64_t row = 0; const auto record = scanner.next(); ++row) {
      LabelledFace face;
      face.row = row;
      if (auto problem = fill(record->fields, face)) {
        out_.set_aside.push_back({file_, row, std::move(problem->reason),
                                  fmt::format("line {}: {}", record->line, problem->detail)});
      } else {
        out_.faces.push_back(std::move(face));
      }
    }
    return std::move(out_);
  }

 private:
  void read_header(CsvScanner& scanner) {
    const auto header = scanner.next();
    if (!header.has_value()) fail(ErrorCode::kData, "{}: the file is empty", file_);
    columns_ = header->fields;
    const auto path = column_of(columns_, {"path", "file", "image_path"}),
               label = column_of(columns_, {"label"});
    if (!path.has_value() || !label.has_value()) {
      fail(ErrorCode::kData, "{}: the header needs the columns `path` (or `file`) and `label`, it has: {}",
           file_, replace_invalid_utf8(fmt::format("{}", fmt::join(columns_, ", "))).substr(0, 200));
    }
    path_ = *path;
    label_ = *label;
    split_ = column_of(columns_, {"split"});
  }

  std::optional<Problem> fill(const std::vector<std::string>& fields, LabelledFace& face) const {
    if (fields.size() != columns_.size()) {
      return Problem{"wrong_field_count",
                     fmt::format("{} fields, the header has {}", fields.size(), columns_.size())};
    }
    for (const std::string& field : fields) {
      if (!is_valid_utf8(field)) return Problem{"not_utf8", "a field's bytes are not UTF-8"};
    }
    face.path = fields[path_];
    face.label = fields[label_];
    face.split = split_.has_value() ? fields[*split_] : default_split_;
    if (face.label.empty()) return Problem{"empty_label", "field `label` is empty"};
    if (!is_split_name(face.split)) {
      return Problem{"bad_split",
                     fmt::format("the split \"{}\" cannot name a file", face.split.substr(0, 64))};
    }
    if (auto problem = check_image(face.path)) return problem;
    return read_votes(fields, face);
  }

  std::optional<Problem> check_image(const std::string& path) const {
    std::error_code ignored;
    const bool usable = !path.empty() && path.front() != '/' && path.find('\0') == std::string::npos;
    if (usable && fs::is_regular_file(out_.image_root / path, ignored)) return std::nullopt;
    return Problem{"image_missing", fmt::format("no image file {} under {}", path, out_.image_root.string())};
  }

  std::optional<Problem> read_votes(const std::vector<std::string>& fields, LabelledFace& face) const {
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (!columns_[i].starts_with(kVotesPrefix)) continue;
      const std::string& text = fields[i];
      std::int64_t count = -1;
      const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), count);
      if (error != std::errc() || stop != text.data() + text.size() || count < 0 || count > kMaxVotes) {
        return Problem{"bad_votes",
                       fmt::format("field `{}` is not a count: \"{}\"", columns_[i], text.substr(0, 40))};
      }
      face.votes.emplace_back(columns_[i].substr(kVotesPrefix.size()), count);
    }
    return std::nullopt;
  }

  std::string file_, default_split_, text_;
  LabelledFaces out_;
  std::vector<std::string> columns_;
  std::size_t path_ = 0, label_ = 0;
  std::optional<std::size_t> split_;
};

bool is_image_name(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg" || extension == ".bmp";
}

std::vector<std::string> image_paths(const fs::path& folder) {
  std::vector<std::string> paths;
  std::error_code error, ignored;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    // Class folders are at most two levels down.
    if (it.depth() >= 3) it.disable_recursion_pending();
    if (it->is_regular_file(ignored) && is_image_name(it->path())) {
      paths.push_back(it->path().lexically_relative(folder).generic_string());
    }
  }
  if (error) fail(ErrorCode::kIo, "{}: cannot list the folder: {}", folder.string(), error.message());
  std::sort(paths.begin(), paths.end());
  return paths;
}

LabelledFaces read_class_folders(const fs::path& folder, const std::string& default_split) {
  LabelledFaces out;
  out.image_root = folder;
  std::int64_t row = 0;
  for (const std::string& path : image_paths(folder)) {
    LabelledFace face;
    face.row = row++;
    face.path = path;
    std::vector<std::string> parts;
    for (const fs::path& part : fs::path(path)) parts.push_back(part.string());
    std::optional<Problem> problem;
    if (!is_valid_utf8(path)) {
      problem = Problem{"not_utf8", "the file's name is not UTF-8"};
    } else if (parts.size() != 2 && parts.size() != 3) {
      problem = Problem{"unexpected_place", fmt::format("{} is not <split>/<label>/x or <label>/x", path)};
    } else {
      face.label = parts[parts.size() - 2];
      face.split = parts.size() == 3 ? parts[0] : default_split;
      if (!is_split_name(face.split)) {
        problem = Problem{"bad_split", fmt::format("the split \"{}\" cannot name a file", face.split)};
      }
    }
    if (problem.has_value()) {
      out.set_aside.push_back({folder.string(), face.row, problem->reason, problem->detail});
    } else {
      out.faces.push_back(std::move(face));
    }
  }
  return out;
}

}  // namespace

LabelledFaces read_labelled_faces(const fs::path& input, const fs::path& image_root,
                                  const std::string& default_split) {
  if (!is_split_name(default_split))
    fail(ErrorCode::kUsage, "the split \"{}\" cannot name a file", default_split);
  std::error_code ignored;
  if (!fs::exists(input, ignored)) fail(ErrorCode::kIo, "{}: no such file or folder", input.string());
  if (!fs::is_directory(input, ignored)) return CsvFaces(input, image_root, default_split).read();
  if (fs::exists(input / "labels.csv", ignored))
    return CsvFaces(input / "labels.csv", image_root, default_split).read();
  return read_class_folders(input, default_split);
}

}  // namespace ferro
