#include "core/checksum.h"

#include <span>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"

namespace ferro {

// FIPS 180-2, appendix B, and the sum of nothing.
TEST_CASE("SHA-256 gives the standard's test vectors") {
  CHECK(sha256_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256_of(std::string(1'000'000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("the sum of pieces is the sum of the whole") {
  const std::string text(100'000, 'x');
  Sha256 sum;
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  sum.update(bytes.first(1));
  sum.update(bytes.subspan(1, 0));
  sum.update(bytes.subspan(1));
  CHECK(sum.hex() == sha256_of(text));
}

TEST_CASE("a file's sum is that of its content, an unreadable file is an I/O error") {
  const testing::ScratchFolder folder;
  const std::string content(3'000'001, 'y');  // Several reads, the last one short.
  write_file_atomically(folder / "a", content);
  CHECK(sha256_of_file(folder / "a") == sha256_of(content));
  testing::expect_error(ErrorCode::kIo, [&] { sha256_of_file(folder / "b"); }, {"cannot open"});
  testing::expect_error(ErrorCode::kIo, [&] { sha256_of_file(folder.path()); },
                        {"cannot read", "Is a directory"});
}

}  // namespace ferro
