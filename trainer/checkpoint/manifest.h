#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace ferro {

// manifest.json of a checkpoint: every other file with its size and SHA-256. It is written last, so a folder
// without a valid one is no checkpoint.

struct CheckpointFile {
  std::string path;  ///< Below the checkpoint, with '/': "model/config.json".
  std::uint64_t bytes = 0;
  std::string sha256;
};

struct Manifest {
  std::int64_t step = 0;
  std::string created;  ///< UTC.
  std::string version;  ///< Of the program.
  std::vector<CheckpointFile> files;
  std::uint64_t bytes() const;  ///< Of all files.
};

constexpr const char* kManifestFile = "manifest.json";
constexpr const char* kStateFile = "state.json";

/// With a checksum of itself.
std::string manifest_text(const Manifest& manifest);

/// Reads `<checkpoint>/manifest.json`, trusting nothing: Error{kData} or Error{kIo} naming the file when it
/// is absent, no JSON, of another format, lacks a key, has a value of the wrong type, or names a file twice,
/// outside the folder or not at all. Sizes are compared with the disk by damage_of, never allocated.
Manifest read_manifest(const std::filesystem::path& checkpoint);

/// What is wrong with the files, one line each, beginning with the file's path; empty: nothing. Without
/// `checksums` only presence and size are compared.
std::vector<std::string> damage_of(const std::filesystem::path& checkpoint, const Manifest& manifest,
                                   bool checksums);

}  // namespace ferro
