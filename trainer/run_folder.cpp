#include "trainer/run_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <system_error>

#include <ATen/Parallel.h>

#include "core/atomic_file.h"
#include "core/error.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

constexpr std::array kRunEntries{"config.yaml",      "provenance.json", "metrics.jsonl",
                                 "timing.jsonl",     "set_aside.jsonl", "divergence.json",
                                 "log.txt",          "evaluation.json", "predictions.jsonl",
                                 "pass_rates.jsonl", "rollouts",        "checkpoints",
                                 "incarnations",     "model",           "best",
                                 "model.tmp",        "best.tmp",        "adapter",
                                 "best_adapter",     "adapter.tmp",     "best_adapter.tmp"};

/// What append() writes, beside rollouts/.
constexpr std::array kAppendedFiles{"metrics.jsonl", "timing.jsonl", "set_aside.jsonl", "pass_rates.jsonl",
                                    "divergence.json"};

bool is_run_entry(const fs::path& path) {
  for (const char* entry : kRunEntries)
    if (path.filename() == entry) return true;
  return false;
}

void empty_run_folder(const fs::path& folder) {
  std::error_code error;
  for (const char* entry : kRunEntries) {
    // Numbers of starts go on: a process of the run that is replaced may still be there.
    if (std::string_view(entry) == "incarnations") continue;
    fs::remove_all(folder / entry, error);
    if (error) fail(ErrorCode::kIo, "{} cannot be removed: {}", (folder / entry).string(), error.message());
  }
}

nlohmann::ordered_json line_of(std::int64_t step, const std::map<std::string, double>& values) {
  nlohmann::ordered_json line{{"step", step}};
  for (const auto& [name, value] : values)
    line[name] = std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
  return line;
}

/// Those of them that are there, relative to the folder.
std::vector<std::string> appended_names(const fs::path& folder) {
  std::vector<std::string> names;
  for (const char* file : kAppendedFiles)
    if (fs::exists(folder / file)) names.emplace_back(file);
  std::error_code absent;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder / "rollouts", absent))
    if (entry.path().extension() == ".jsonl") names.push_back("rollouts/" + entry.path().filename().string());
  return names;
}

void sync_file(const fs::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && (::fsync(descriptor) == 0 || errno == EINVAL);
  const int error = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (!synced) fail(ErrorCode::kIo, "{}: cannot be flushed: {}", file.string(), std::strerror(error));
}

std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

}  // namespace

void RunFolder::check_free(const fs::path& folder, bool overwrite) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (!overwrite)
      fail(ErrorCode::kConfig,
           "output_dir {} is not empty; set overwrite_output_dir: true to replace the run in it, or choose "
           "another folder",
           folder.string());
    if (!is_run_entry(entry.path()))
      fail(ErrorCode::kConfig,
           "output_dir {} holds `{}`, which no run wrote: it is not overwritten; choose another folder",
           folder.string(), entry.path().filename().string());
  }
}

RunFolder::RunFolder(fs::path folder, bool overwrite, const Clock& clock)
    : RunFolder(std::move(folder), overwrite, false, clock) {}

RunFolder::RunFolder(fs::path folder, bool overwrite, bool keep, const Clock& clock, bool writes)
    : path_(std::move(folder)), clock_(clock), writes_(writes) {
  if (!writes_) return;
  if (keep) {
    if (!fs::exists(path_ / "provenance.json")) return;
    nlohmann::json known = nlohmann::json::parse(read_file(path_ / "provenance.json"), nullptr, false);
    if (known.is_object()) provenance_ = std::move(known);
    return;
  }
  check_free(path_, overwrite);
  create_folders(path_);
  empty_run_folder(path_);
}

std::map<std::string, std::uint64_t> RunFolder::appended_files() {
  if (!writes_) return {};
  for (const std::string& file : unflushed_) sync_file(path_ / file);
  if (!unflushed_.empty()) sync_folder(path_);
  if (fs::exists(path_ / "rollouts")) sync_folder(path_ / "rollouts");
  unflushed_.clear();
  std::map<std::string, std::uint64_t> sizes;
  for (const std::string& file : appended_names(path_)) sizes[file] = fs::file_size(path_ / file);
  return sizes;
}

void RunFolder::cut_appended_files(const std::map<std::string, std::uint64_t>& sizes) {
  if (!writes_) return;
  for (const auto& [file, size] : sizes) {
    std::error_code absent;
    const std::uint64_t present = fs::file_size(path_ / file, absent);
    if (absent || present < size)
      fail(ErrorCode::kData, "{} {}, the checkpoint was written when it had {}", (path_ / file).string(),
           absent ? "is missing" : fmt::format("has {} bytes", present), size);
  }
  for (const std::string& file : appended_names(path_)) {
    std::error_code error;
    const auto known = sizes.find(file);
    if (known == sizes.end()) {
      fs::remove(path_ / file, error);
    } else {
      fs::resize_file(path_ / file, known->second, error);
    }
    if (error) fail(ErrorCode::kIo, "{}: cannot be cut back: {}", (path_ / file).string(), error.message());
  }
}

void RunFolder::forget_provenance(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) provenance_.erase(key);
}

void RunFolder::write_config(const std::string& resolved_yaml) {
  if (!writes_) return;
  write_file_atomically(path_ / "config.yaml", resolved_yaml);
}

void RunFolder::write_provenance(const nlohmann::json& facts) {
  if (!writes_) return;
  provenance_.update(facts);
  write_file_atomically(path_ / "provenance.json", provenance_.dump(2) + "\n");
}

void RunFolder::append(const fs::path& file, const nlohmann::ordered_json& line) {
  if (!writes_) return;
  const fs::path path = path_ / file;
  if (file.has_parent_path()) create_folders(path.parent_path());
  const std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  std::FILE* out = std::fopen(path.c_str(), "ab");
  if (out == nullptr) fail(ErrorCode::kIo, "{} cannot be opened: {}", path.string(), std::strerror(errno));
  unflushed_.insert(file.generic_string());
  const std::size_t written = std::fwrite(text.data(), 1, text.size(), out);
  const int error = written == text.size() ? 0 : errno;
  const bool closed = std::fclose(out) == 0;
  if (error != 0 || !closed)
    fail(ErrorCode::kIo, "{}: writing failed: {}", path.string(), std::strerror(error != 0 ? error : errno));
}

void RunFolder::log_metrics(std::int64_t step, const std::map<std::string, double>& metrics) {
  append("metrics.jsonl", line_of(step, metrics));
}

void RunFolder::log_timing(std::int64_t step, const std::map<std::string, double>& timing) {
  nlohmann::ordered_json line = line_of(step, timing);
  line["at"] = clock_.utc_timestamp();
  append("timing.jsonl", line);
}

nlohmann::json machine_facts(const Clock& clock, const std::vector<std::string>& roles) {
  nlohmann::json ids = nlohmann::json::object();
  for (const std::string& role : roles) ids[role] = static_cast<std::int64_t>(::getpid());
  return {{"version", FERRO_VERSION},
          {"processor", processor_name()},
          {"threads", at::get_num_threads()},
          {"started", clock.utc_timestamp()},
          {"process_ids", ids}};
}

}  // namespace ferro
