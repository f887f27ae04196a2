#pragma once

#include <filesystem>

namespace ferro {

/// A model folder under construction at `<target>.tmp`, removed with all its content unless published. One
/// writer per target. A process that is killed leaves the `.tmp` behind; the next writer of the same target
/// removes it.
class StagedFolder {
 public:
  /// Error{kIo}: the target exists without the file `mark` (only a model, or an adapter, is ever replaced),
  /// or the folder cannot be made.
  explicit StagedFolder(const std::filesystem::path& target, const char* mark = "config.json");
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;
  ~StagedFolder();
  const std::filesystem::path& path() const { return staged_; }

  /// Takes the target's place in one step; what was there before goes away. File systems that cannot exchange
  /// two names do it in two steps. Error{kIo}.
  void publish();

 private:
  std::filesystem::path target_, staged_;
};

}  // namespace ferro
