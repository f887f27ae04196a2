#include "core/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace ferro {
namespace {

std::string errno_text(int number) {
  return std::generic_category().message(number);
}

[[noreturn]] void fail_io(const std::filesystem::path& path, const char* operation, int number) {
  fail(ErrorCode::kIo, "{}: cannot {}: {}", path.string(), operation, errno_text(number));
}

/// Owns a descriptor for the length of a scope.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  int get() const { return value_; }

 private:
  int value_;
};

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path)
    : path_(std::move(path)), temporary_(path_.string() + ".tmp-" + std::to_string(::getpid())) {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_io(temporary_, "create", errno);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  FERRO_CHECK(descriptor_ >= 0, "{} was committed already", path_.string());
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0) {
      const int number = errno;
      if (number == EINTR) continue;
      fail(ErrorCode::kIo, "{}: cannot write: {} (after {} bytes, in {})", path_.string(), errno_text(number),
           bytes_written_, temporary_.string());
    }
    bytes_written_ += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::commit() {
  FERRO_CHECK(descriptor_ >= 0, "{} was committed already", path_.string());
  const auto require = [this](bool done, const char* operation) {
    const int number = errno;
    if (!done)
      fail(ErrorCode::kIo, "{}: cannot {}: {} (after {} bytes, in {})", path_.string(), operation,
           errno_text(number), bytes_written_, temporary_.string());
  };
  require(::fsync(descriptor_) == 0, "flush to disk");
  require(::rename(temporary_.c_str(), path_.c_str()) == 0, "rename into place");
  // From here the temporary's name is gone, so the destructor has nothing to remove.
  const int closed = ::close(std::exchange(descriptor_, -1));
  require(closed == 0, "close");
  sync_folder(path_.has_parent_path() ? path_.parent_path() : std::filesystem::path("."));
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

std::string read_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) fail_io(path, "open", errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail_io(path, "examine", errno);
  if (S_ISDIR(status.st_mode)) fail_io(path, "read", EISDIR);

  const auto require_size = [&](std::uint64_t size) {
    if (size > max_bytes)
      fail(ErrorCode::kData, "{}: larger than the {} bytes allowed here", path.string(), max_bytes);
  };
  std::string content;
  if (S_ISREG(status.st_mode)) {
    require_size(static_cast<std::uint64_t>(status.st_size));
    content.reserve(static_cast<std::size_t>(status.st_size));
  }
  // Pipes and growing files have no size to trust: read to the end.
  constexpr std::size_t kChunk = std::size_t{1} << 16;
  while (true) {
    const std::size_t have = content.size();
    content.resize(have + kChunk);
    const ssize_t got = ::read(file.get(), content.data() + have, kChunk);
    const int number = errno;
    content.resize(have + (got > 0 ? static_cast<std::size_t>(got) : 0));
    if (got < 0 && number == EINTR) continue;
    if (got < 0) fail_io(path, "read", number);
    if (got == 0) return content;
    require_size(content.size());
  }
}

void create_folders(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail(ErrorCode::kIo, "{}: cannot create the folder: {}", folder.string(), error.message());
  if (!std::filesystem::is_directory(folder, error))
    fail(ErrorCode::kIo, "{}: exists and is not a folder", folder.string());
}

void sync_folder(const std::filesystem::path& folder) {
  const Descriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened.get() < 0) fail_io(folder, "open the folder", errno);
  // EINVAL: this file system cannot sync folders, and has nothing to make durable.
  if (::fsync(opened.get()) != 0 && errno != EINVAL) fail_io(folder, "sync the folder", errno);
}

}  // namespace ferro
