#include "core/byte_text.h"

#include <catch2/catch.hpp>

namespace ferro {

TEST_CASE("bytes are told in powers of 1024, with one decimal above bytes") {
  CHECK(byte_text(0) == "0 B");
  CHECK(byte_text(1023) == "1023 B");
  CHECK(byte_text(1024) == "1.0 KiB");
  CHECK(byte_text(1536 * 1024) == "1.5 MiB");
  CHECK(byte_text(std::uint64_t{5} << 40) == "5.0 TiB");
  CHECK(byte_text(std::uint64_t{5} << 50) == "5120.0 TiB");
}

}  // namespace ferro
