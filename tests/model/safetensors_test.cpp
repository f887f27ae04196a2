#include "model/safetensors.h"

#include <cstring>
#include <fstream>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"

namespace ferro {
namespace {

using testing::ScratchFolder;

std::string little_endian(std::uint64_t value) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

std::filesystem::path file_of(const ScratchFolder& scratch, const std::string& header,
                              std::size_t data_bytes) {
  write_file_atomically(scratch / "x.safetensors",
                        little_endian(header.size()) + header + std::string(data_bytes, '\0'));
  return scratch / "x.safetensors";
}

void refused(const std::string& header, std::size_t data_bytes, const std::vector<std::string>& parts) {
  const ScratchFolder scratch;
  const auto path = file_of(scratch, header, data_bytes);
  std::vector<std::string> all = parts;
  all.push_back("x.safetensors");
  testing::expect_error(
      ErrorCode::kData, [&] { const SafetensorsFile file(path); }, all);
}

TEST_CASE("tensors written are read back bit by bit in every dtype, and the checksum is the file's") {
  const ScratchFolder scratch;
  const auto path = scratch / "model.safetensors";
  const std::map<std::string, at::Tensor> tensors{
      {"b", at::rand({3, 5})}, {"a", at::rand({7})}, {"none", at::rand({0, 4})}};
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const std::string checksum = write_safetensors(path, {{"b", {3, 5}}, {"a", {7}}, {"none", {0, 4}}}, dtype,
                                                   [&](const std::string& name) { return tensors.at(name); });
    CHECK(checksum == sha256_of_file(path));
    const SafetensorsFile file(path);
    CHECK(file.entries().size() == 3);
    for (const auto& [name, tensor] : tensors) CHECK(file.tensor(name).equal(tensor.to(dtype)));
  }
}

TEST_CASE("a tensor keeps its file mapped") {
  const ScratchFolder scratch;
  write_safetensors(scratch / "m.safetensors", {{"a", {2}}}, at::kFloat,
                    [](const std::string&) { return at::ones({2}); });
  const at::Tensor tensor = SafetensorsFile(scratch / "m.safetensors").tensor("a");
  CHECK(tensor.equal(at::ones({2})));
}

TEST_CASE("data that is not aligned to its dtype is read") {
  const ScratchFolder scratch;
  // A header of odd length: the floats begin at an odd address.
  std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  if (header.size() % 2 == 0) header += " ";
  const float values[2] = {1.5f, -2.25f};
  std::string data(8, '\0');
  std::memcpy(data.data(), values, 8);
  write_file_atomically(scratch / "odd.safetensors", little_endian(header.size()) + header + data);
  const at::Tensor tensor = SafetensorsFile(scratch / "odd.safetensors").tensor("a");
  CHECK(tensor[0].item<float>() == 1.5f);
  CHECK(tensor[1].item<float>() == -2.25f);
}

TEST_CASE("a tensor that is absent or of an unsupported dtype is refused by name") {
  const ScratchFolder scratch;
  const SafetensorsFile file(
      file_of(scratch, R"({"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}})", 2));
  testing::expect_error(ErrorCode::kData, [&] { file.tensor("b"); }, {"no tensor b"});
  testing::expect_error(ErrorCode::kData, [&] { file.tensor("a"); }, {"a", "F8_E4M3"});
}

TEST_CASE("hostile headers are refused, naming file and tensor") {
  refused("", 0, {"header"});
  refused("[]", 0, {"does not begin with an object"});
  refused("{", 0, {"not JSON"});
  refused("{} trailing", 0, {"not JSON"});
  refused(R"({"a":1})", 0, {"a", "not an object"});
  refused(R"({"a":{"dtype":"F32","shape":[1]}})", 4, {"a", "data_offsets is missing"});
  refused(R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", 4, {"a", "F99"});
  refused(R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", 4, {"a", "dtype"});
  refused(R"({"a":{"dtype":"F32","shape":3,"data_offsets":[0,4]}})", 4, {"a", "shape"});
  refused(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, {"a", "shape"});
  refused(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4, {"a", "shape"});
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4, {"a", "not a pair"});
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, {"a", "[4, 0)"});
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", 8, {"a", "4 bytes"});
  refused(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
          {"a", "overflows"});
  refused(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4,
          {"a", "too large"});
  refused(R"({"__metadata__":{"k":1}})", 0, {"__metadata__"});
  refused(R"({"a":{"x":{"y":{"z":{}}}}})", 0, {"nested"});
  // Truncated data, bytes after the last tensor.
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7, {"a", "truncated"});
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 9, {"1 bytes follow"});
}

TEST_CASE("overlaps, gaps and duplicate names are refused") {
  refused(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
      12, {"b", "overlaps"});
  refused(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
      12, {"b", "gap"});
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, {"a", "gap"});
  // Two in one place, which leaves the other's empty: the overlap is the news.
  refused(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"c":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
      12, {"c", "overlaps b", "12"});
  refused(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      4, {"duplicate", "a"});
  refused(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4,
          {"duplicate", "dtype"});
}

TEST_CASE("a header length beyond the file or the format's limit is refused") {
  const ScratchFolder scratch;
  for (const std::uint64_t length :
       {std::uint64_t{1} << 60, ~std::uint64_t{0}, std::uint64_t{100'000'001}, std::uint64_t{3}}) {
    write_file_atomically(scratch / "x.safetensors", little_endian(length) + "{}");
    testing::expect_error(ErrorCode::kData, [&] { const SafetensorsFile file(scratch / "x.safetensors"); },
                          {"x.safetensors", std::to_string(length)});
  }
}

TEST_CASE("files that are missing, empty, short or folders are refused") {
  const ScratchFolder scratch;
  const auto open = [&] { const SafetensorsFile file(scratch / "x.safetensors"); };
  testing::expect_error(ErrorCode::kIo, open, {"x.safetensors"});
  write_file_atomically(scratch / "x.safetensors", "");
  testing::expect_error(ErrorCode::kData, open, {"0 bytes"});
  write_file_atomically(scratch / "x.safetensors", "1234567");
  testing::expect_error(ErrorCode::kData, open, {"7 bytes"});
  std::filesystem::remove(scratch / "x.safetensors");
  std::filesystem::create_directory(scratch / "x.safetensors");
  testing::expect_error(ErrorCode::kIo, open, {"not a regular file"});
}

TEST_CASE("every cut of a valid file is refused") {
  const ScratchFolder scratch;
  const auto path = scratch / "x.safetensors";
  write_safetensors(path, {{"a", {3}}, {"b", {2, 2}}}, at::kFloat, [](const std::string& name) {
    return name == "a" ? at::ones({3}) : at::ones({2, 2});
  });
  const std::string whole = read_file(path);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    write_file_atomically(path, std::string_view(whole).substr(0, length));
    CHECK_THROWS_AS(SafetensorsFile(path), Error);
  }
}

TEST_CASE("any one byte of a header changed gives a readable file or an error of ours, never anything else") {
  const ScratchFolder scratch;
  const auto path = scratch / "x.safetensors";
  write_safetensors(path, {{"a", {3}}, {"b", {2, 2}}}, at::kFloat, [](const std::string& name) {
    return name == "a" ? at::ones({3}) : at::ones({2, 2});
  });
  const std::string whole = read_file(path);
  std::size_t refusals = 0;
  for (std::size_t i = 0; i + 28 < whole.size(); ++i) {  // The last 28 bytes are the seven floats.
    for (const char byte : {'\0', '9', '"', '{', ']', '\x7f', '\xff'}) {
      std::string changed = whole;
      changed[i] = byte;
      std::ofstream(path, std::ios::binary) << changed;
      try {
        const SafetensorsFile file(path);
        for (const auto& [name, entry] : file.entries()) CHECK(file.tensor(name).numel() <= 4);
      } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::kData);
        ++refusals;
      }
    }
  }
  CHECK(refusals > whole.size());
}

TEST_CASE("a write that fails leaves neither file nor temporary") {
  const ScratchFolder scratch;
  testing::expect_error(ErrorCode::kInternal,
                        [&] {
                          write_safetensors(scratch / "x.safetensors", {{"a", {3}}}, at::kFloat,
                                            [](const std::string&) { return at::ones({4}); });
                        },
                        {"a", "[4]", "[3]"});
  CHECK(std::filesystem::is_empty(scratch.path()));
}

}  // namespace
}  // namespace ferro
