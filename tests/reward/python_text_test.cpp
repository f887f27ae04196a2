#include "reward/python_text.h"

#include <string>

#include <catch2/catch.hpp>

namespace ferro {

TEST_CASE("strip removes every character that Python calls blank, on both sides") {
  // str.isspace() of Python 3: one of each range of the header, in UTF-8.
  for (const char* blank : {" ",
                            "\t",
                            "\n",
                            "\v",
                            "\f",
                            "\r",
                            "\x1c",
                            "\x1d",
                            "\x1e",
                            "\x1f",
                            "\xC2\x85",
                            "\xC2\xA0",
                            "\xE1\x9A\x80",
                            "\xE2\x80\x80",
                            "\xE2\x80\x8A",
                            "\xE2\x80\xA8",
                            "\xE2\x80\xA9",
                            "\xE2\x80\xAF",
                            "\xE2\x81\x9F",
                            "\xE3\x80\x80"}) {
    CAPTURE(blank);
    CHECK(strip(std::string(blank) + "a b" + blank + blank) == "a b");
    CHECK(strip(blank).empty());
    CHECK(strip_left(std::string(blank) + "a") == "a");
    CHECK(strip_right(std::string("a") + blank) == "a");
  }
}

TEST_CASE("strip keeps what Python does not call blank") {
  // Zero-width space U+200B, word joiner U+2060, byte order mark U+FEFF, NUL, a bare 0x85 or 0xA0 byte (not
  // UTF-8), U+2100, U+4E00.
  for (const std::string& kept :
       {std::string("\xE2\x80\x8B"), std::string("\xE2\x81\xA0"), std::string("\xEF\xBB\xBF"),
        std::string(1, '\0'), std::string("\x85"), std::string("\xA0"), std::string("\xE2\x84\x80"),
        std::string("\xE4\xB8\x80")}) {
    CHECK(strip(kept) == kept);
    CHECK(strip(" " + kept + " ") == kept);
  }
}

}  // namespace ferro
