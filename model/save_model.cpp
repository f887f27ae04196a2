#include <fcntl.h>
#include <stdio.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "core/atomic_file.h"
#include "core/error.h"
#include "model/model_folder.h"
#include "model/safetensors.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

const char* const kCompanions[] = {
    "tokenizer.json",      "tokenizer_config.json",   "vocab.json", "merges.txt", "chat_template.json",
    "chat_template.jinja", "preprocessor_config.json"};

const char* dtype_name(at::ScalarType dtype) {
  if (dtype == at::kFloat) return "float32";
  return dtype == at::kBFloat16 ? "bfloat16" : "float16";
}

/// A folder under construction; removed with all its content unless published.
class StagedFolder {
 public:
  explicit StagedFolder(const fs::path& target) : target_(target), staged_(target.string() + ".tmp") {
    std::error_code ignored;
    fs::remove_all(staged_, ignored);
    create_folders(staged_);
  }
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;
  ~StagedFolder() {
    std::error_code ignored;
    fs::remove_all(staged_, ignored);
  }

  const fs::path& path() const { return staged_; }

  /// Takes the target's place in one step; what was there before goes away with the staged name. File systems
  /// that cannot exchange two names do it in two steps.
  void publish() {
    sync_folder(staged_);
    const bool exists = fs::exists(target_);
    const unsigned flags = exists ? RENAME_EXCHANGE : RENAME_NOREPLACE;
    if (::renameat2(AT_FDCWD, staged_.c_str(), AT_FDCWD, target_.c_str(), flags) != 0) {
      if (errno != EINVAL && errno != ENOSYS && errno != EXDEV) fail_rename(staged_, target_);
      if (exists) rename(target_, fs::path(target_.string() + ".old"));
      rename(staged_, target_);
      if (exists) fs::remove_all(target_.string() + ".old");
    }
    sync_folder(target_.parent_path().empty() ? fs::path(".") : target_.parent_path());
  }

 private:
  [[noreturn]] static void fail_rename(const fs::path& from, const fs::path& to) {
    fail(ErrorCode::kIo, "{}: cannot rename {} to it: {}", to.string(), from.string(), std::strerror(errno));
  }
  static void rename(const fs::path& from, const fs::path& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) fail_rename(from, to);
  }
  fs::path target_, staged_;
};

/// Only a model is replaced, never a folder that happens to have the name.
void check_replaceable(const fs::path& folder) {
  if (!fs::exists(folder)) return;
  if (!fs::is_directory(folder)) fail(ErrorCode::kIo, "{}: exists and is not a folder", folder.string());
  if (!fs::is_empty(folder) && !fs::exists(folder / "config.json"))
    fail(ErrorCode::kIo, "{}: exists and is not a model folder (no config.json); choose another or remove it",
         folder.string());
}

}  // namespace

std::string save_model(const Model& model, const fs::path& folder, const fs::path& source_folder,
                       at::ScalarType dtype) {
  const fs::path target = folder.has_filename() ? folder : folder.parent_path();
  check_replaceable(target);
  StagedFolder staged(target);
  model.config.save(staged.path() / "config.json", dtype_name(dtype));
  model.config.save_generation_config(staged.path() / "generation_config.json");
  if (!source_folder.empty())
    for (const char* name : kCompanions)
      if (fs::exists(source_folder / name))
        write_file_atomically(staged.path() / name, read_file(source_folder / name));
  std::vector<NamedShape> tensors;
  for (const ParameterInfo& info : model.arena.table.parameters) tensors.push_back({info.name, info.shape});
  const std::string checksum =
      write_safetensors(staged.path() / "model.safetensors", tensors, dtype,
                        [&](const std::string& name) { return model.arena.export_parameter(name); });
  staged.publish();
  return checksum;
}

}  // namespace ferro
