#include "core/checksum.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <vector>

#include <openssl/evp.h>

#include "core/error.h"

namespace ferro {

struct Sha256::Impl {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {
  FERRO_CHECK(impl_->context != nullptr && EVP_DigestInit_ex(impl_->context, EVP_sha256(), nullptr) == 1,
              "libcrypto gives no SHA-256");
}

Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
  FERRO_CHECK(EVP_DigestUpdate(impl_->context, bytes.data(), bytes.size()) == 1, "{} bytes", bytes.size());
}

std::string Sha256::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  FERRO_CHECK(EVP_DigestFinal_ex(impl_->context, digest.data(), &length) == 1, "sum ended twice");
  std::string text;
  for (unsigned int i = 0; i < length; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

std::string sha256_of(std::string_view text) {
  Sha256 sum;
  sum.update(std::as_bytes(std::span(text.data(), text.size())));
  return sum.hex();
}

std::string sha256_of_file(const std::filesystem::path& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (!file)
    fail(ErrorCode::kIo, "{}: cannot open: {}", path.string(), std::generic_category().message(errno));
  Sha256 sum;
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  while (true) {
    const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), file.get());
    if (got == 0) break;
    sum.update(std::span(buffer).first(got));
  }
  if (std::ferror(file.get()) != 0)
    fail(ErrorCode::kIo, "{}: cannot read: {}", path.string(), std::generic_category().message(errno));
  return sum.hex();
}

}  // namespace ferro
