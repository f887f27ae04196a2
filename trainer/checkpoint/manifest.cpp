#include "trainer/checkpoint/manifest.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <system_error>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "core/error.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kFormat = "ferro checkpoint";
constexpr std::int64_t kFormatVersion = 1;
constexpr std::uint64_t kMaxManifestBytes = std::uint64_t{1} << 26;
constexpr std::size_t kMaxFiles = 1'000'000;

/// What a manifest says is checked key by key; every complaint names file and key.
class ManifestReader {
 public:
  explicit ManifestReader(fs::path file) : file_(std::move(file)) {}

  Manifest read() const {
    const std::string content = read_file(file_, kMaxManifestBytes);
    const json parsed = json::parse(content, nullptr, false);
    if (!parsed.is_object()) refuse("not a JSON object");
    if (text(parsed, "format") != kFormat) refuse("`format` is not \"" + std::string(kFormat) + "\"");
    const std::uint64_t format_version = number(parsed, "format_version");
    if (format_version != kFormatVersion)
      refuse(fmt::format("format_version is {}, this program reads {}", format_version, kFormatVersion));
    Manifest manifest;
    manifest.step = static_cast<std::int64_t>(number(parsed, "step"));
    manifest.created = text(parsed, "created");
    manifest.version = text(parsed, "version");
    const json& files = member(parsed, "files");
    if (!files.is_array()) refuse("`files` is no list");
    if (files.size() > kMaxFiles) refuse(fmt::format("{} files are too many", files.size()));
    std::set<std::string> seen;
    for (const json& entry : files) {
      manifest.files.push_back(file_entry(entry));
      if (!seen.insert(manifest.files.back().path).second)
        refuse(fmt::format("`{}` is there twice", manifest.files.back().path));
    }
    if (!seen.contains(kStateFile)) refuse(fmt::format("`{}` is not among the files", kStateFile));
    if (content != manifest_text(manifest)) refuse("its bytes are not those that were written");
    return manifest;
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    fail(ErrorCode::kData, "{}: {}", file_.string(), why);
  }
  const json& member(const json& object, const char* key) const {
    const auto found = object.find(key);
    if (found == object.end()) refuse(fmt::format("`{}` is missing", key));
    return *found;
  }
  std::string text(const json& object, const char* key) const {
    const json& value = member(object, key);
    if (!value.is_string()) refuse(fmt::format("`{}` is no text", key));
    return value.get<std::string>();
  }
  /// Within 2^53, so that sums of sizes do not overflow.
  std::uint64_t number(const json& object, const char* key) const {
    const json& value = member(object, key);
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > (std::uint64_t{1} << 53))
      refuse(fmt::format("`{}` is no whole number from 0 to 2^53", key));
    return value.get<std::uint64_t>();
  }
  CheckpointFile file_entry(const json& entry) const {
    if (!entry.is_object()) refuse("an entry of `files` is no object");
    CheckpointFile file{text(entry, "path"), number(entry, "bytes"), text(entry, "sha256")};
    if (!stays_inside(file.path)) refuse(json(file.path).dump() + " is no path below the checkpoint");
    const bool hex =
        file.sha256.size() == 64 && file.sha256.find_first_not_of("0123456789abcdef") == std::string::npos;
    if (!hex) refuse(fmt::format("`sha256` of {} is no SHA-256", file.path));
    return file;
  }
  static bool stays_inside(std::string_view path) {
    if (path.empty() || path.size() > 4096 || path.front() == '/') return false;
    if (std::any_of(path.begin(), path.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }))
      return false;
    while (true) {
      const std::size_t slash = path.find('/');
      const std::string_view part = path.substr(0, slash);
      if (part.empty() || part == "." || part == "..") return false;
      if (slash == std::string_view::npos) return true;
      path.remove_prefix(slash + 1);
    }
  }

  fs::path file_;
};

/// "" or what is wrong. Links are not followed out of the folder.
std::string damage_of_file(const fs::path& checkpoint, const CheckpointFile& file, bool checksums) {
  fs::path at = checkpoint;
  std::error_code error;
  for (const fs::path& part : fs::path(file.path)) {
    at /= part;
    if (fs::is_symlink(fs::symlink_status(at, error))) return "is a link, a file was written";
  }
  const fs::file_status status = fs::symlink_status(at, error);
  if (!fs::exists(status)) return "is missing";
  if (!fs::is_regular_file(status)) return "is no file";
  const std::uint64_t bytes = fs::file_size(at, error);
  if (error) return "cannot be examined: " + error.message();
  if (bytes != file.bytes) return fmt::format("has {} bytes, {} were written", bytes, file.bytes);
  if (!checksums) return "";
  try {
    const std::string sum = sha256_of_file(at);
    if (sum != file.sha256) return fmt::format("has SHA-256 {}, {} was written", sum, file.sha256);
  } catch (const Error& unreadable) {
    return unreadable.what();
  }
  return "";
}

}  // namespace

std::uint64_t Manifest::bytes() const {
  std::uint64_t sum = 0;
  for (const CheckpointFile& file : files) sum += file.bytes;
  return sum;
}

std::string manifest_text(const Manifest& manifest) {
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const CheckpointFile& file : manifest.files)
    files.push_back({{"path", file.path}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  nlohmann::ordered_json out{{"format", kFormat},           {"format_version", kFormatVersion},
                             {"step", manifest.step},       {"created", manifest.created},
                             {"version", manifest.version}, {"files", std::move(files)}};
  out["manifest_sha256"] = sha256_of(out.dump(1));
  return out.dump(1) + "\n";
}

Manifest read_manifest(const fs::path& checkpoint) {
  return ManifestReader(checkpoint / kManifestFile).read();
}

std::vector<std::string> damage_of(const fs::path& checkpoint, const Manifest& manifest, bool checksums) {
  std::vector<std::string> damage;
  for (const CheckpointFile& file : manifest.files)
    if (const std::string what = damage_of_file(checkpoint, file, checksums); !what.empty())
      damage.push_back((checkpoint / file.path).string() + ": " + what);
  return damage;
}

}  // namespace ferro
