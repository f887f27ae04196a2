#include <algorithm>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <sys/mount.h>
#include <sys/resource.h>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "tests/core/scratch_folder.h"
#include "tests/data/image_encoders.h"
#include "tests/launch/run_ferro.h"

namespace ferro::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Words = std::vector<std::string>;

void expect_exit(int code, const Words& words, const std::vector<std::string>& parts) {
  const ProgramRun run = run_ferro(words);
  INFO(run.err);
  CHECK(run.exit_code == code);
  for (const std::string& part : parts) CHECK_THAT(run.err, Catch::Contains(part));
}

Words joined(Words first, const Words& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

/// A folder with a preset's model and two pictures.
struct ModelBench {
  ScratchFolder folder;
  fs::path base = folder / "base";

  ModelBench() {
    const json rows = json::array(
        {{{"image_path", "a.png"}, {"question", "What is it?"}, {"response", "A face with raised brows."}}});
    write_file_atomically(folder / "rows.json", rows.dump());
    for (const char* name : {"a.png", "b.png"}) {
      const PngParts parts{.width = 48, .height = 48, .depth = 8, .colour_type = 0};
      const Bytes png = png_around(parts, zlib_of_zeros(48 * 49));
      write_file_atomically(folder / name, std::string(png.begin(), png.end()));
    }
    succeed({"model", "init", "--tokenizer-text", (folder / "rows.json").string(), "--out", base.string(),
             "--vocab-size", "320", "--seed", "5"});
  }

  Words ask(const std::string& command, const Words& more) const {
    return joined({command, "--model", base.string()}, more);
  }
  std::string picture(const char* name) const { return (folder / name).string(); }
};

/// config.json of the base, edited, in a folder of its own with nothing beside it.
fs::path config_like(const ModelBench& bench, const std::function<void(json&)>& edit) {
  json config = json::parse(read_file(bench.base / "config.json"));
  edit(config);
  fs::create_directories(bench.folder / "like");
  write_file_atomically(bench.folder / "like" / "config.json", config.dump());
  return bench.folder / "like" / "config.json";
}

TEST_CASE("a model like another has its shape and, with the same seed, its weights") {
  const ModelBench bench;
  const fs::path same = bench.folder / "same";
  const std::string report = succeed({"model", "init", "--like", (bench.base / "config.json").string(),
                                      "--out", same.string(), "--seed", "5"})
                                 .out;
  CHECK(sha256_of_file(same / "model.safetensors") == sha256_of_file(bench.base / "model.safetensors"));
  CHECK_THAT(report, Catch::Contains(sha256_of_file(same / "model.safetensors")));
  // What makes it a model that can be asked came along.
  CHECK(read_file(same / "tokenizer.json") == read_file(bench.base / "tokenizer.json"));
  CHECK(succeed({"generate", "--model", same.string(), "--prompt", "What is it?", "-n", "4", "--ids"}).out ==
        succeed(bench.ask("generate", {"--prompt", "What is it?", "-n", "4", "--ids"})).out);
}

TEST_CASE("a sharded bfloat16 model is half as large, and inspect lists its files' sums") {
  const ModelBench bench;
  const fs::path small = bench.folder / "small";
  succeed({"model", "init", "--like", (bench.base / "config.json").string(), "--out", small.string(),
           "--dtype", "bfloat16", "--max-shard-size", "700KB"});
  const std::string report = succeed({"model", "inspect", small.string()}).out;
  std::uintmax_t bytes = 0;
  int files = 0;
  for (const auto& entry : fs::directory_iterator(small)) {
    if (entry.path().extension() != ".safetensors") continue;
    ++files;
    bytes += fs::file_size(entry.path());
    CHECK_THAT(report,
               Catch::Contains(sha256_of_file(entry.path()) + "  " + entry.path().filename().string()));
  }
  CHECK(files > 2);
  // Half of the weights, and headers of a few kilobytes.
  const auto half = fs::file_size(bench.base / "model.safetensors") / 2;
  CHECK(bytes > half - 40'000);
  CHECK(bytes < half + 40'000);
  CHECK(run_ferro({"model", "inspect", small.string(), "--no-checksum"}).out.find(".safetensors") ==
        std::string::npos);
}

TEST_CASE("a preset's tokenizer_config.json names the tokens and the template that its other files have") {
  const ModelBench bench;
  const auto read = [&](const char* name) { return json::parse(read_file(bench.base / name)); };
  const json tokenizer = read("tokenizer_config.json"), config = read("config.json"),
             tokens = read("tokenizer.json");
  CHECK(tokenizer.at("tokenizer_class") == "Qwen2Tokenizer");
  CHECK(tokenizer.at("chat_template") == read("chat_template.json").at("chat_template"));
  const json& text = config.contains("text_config") ? config.at("text_config") : config;
  CHECK(tokenizer.at("model_max_length") == text.at("max_position_embeddings"));
  std::map<std::string, int> ids;
  for (const json& token : tokens.at("added_tokens")) ids[token.at("content")] = token.at("id");
  const json generation = read("generation_config.json");
  CHECK(generation.at("eos_token_id").at(0) == ids.at(tokenizer.at("eos_token")));
  CHECK(generation.at("pad_token_id") == ids.at(tokenizer.at("pad_token")));
}

TEST_CASE("a model whose image processor is only nested in processor_config.json is asked and shown") {
  const ModelBench bench;
  const Words question{"--prompt", "What is it?", "-n", "5", "--ids", "--image", bench.picture("a.png")};
  const std::string before = succeed(bench.ask("generate", question)).out;
  const fs::path flat = bench.base / "preprocessor_config.json";
  const json processor = json::parse(read_file(flat));
  fs::remove(flat);
  expect_exit(74, bench.ask("generate", question), {"preprocessor_config.json", "processor_config.json"});
  write_file_atomically(bench.base / "processor_config.json", json{{"image_processor", processor}}.dump());
  CHECK(succeed(bench.ask("generate", question)).out == before);
  CHECK_THAT(succeed({"model", "inspect", bench.base.string(), "--no-checksum"}).out,
             Catch::Contains("images   processor_config.json"));
  // It wins over a preprocessor_config.json of another model.
  write_file_atomically(flat, R"({"patch_size": 7})");
  CHECK(succeed(bench.ask("generate", question)).out == before);
}

TEST_CASE("inspect ends with 65 and names what does not belong together") {
  const ModelBench bench;
  write_file_atomically(bench.base / "preprocessor_config.json", R"({"patch_size": 7})");
  const ProgramRun run = run_ferro({"model", "inspect", bench.base.string()});
  CHECK(run.exit_code == 65);
  CHECK_THAT(run.out, Catch::Contains("patch_size is 7"));
  fs::remove(bench.base / "preprocessor_config.json");
  json config = json::parse(read_file(bench.base / "config.json"));
  config["image_token_id"] = 3;
  write_file_atomically(bench.base / "config.json", config.dump());
  const ProgramRun other = run_ferro({"model", "inspect", bench.base.string()});
  CHECK(other.exit_code == 65);
  CHECK_THAT(other.out, Catch::Contains("<|image_pad|>"));
}

TEST_CASE("options that do not go together are refused before anything is written") {
  const ModelBench bench;
  const std::string like = (bench.base / "config.json").string(), out = (bench.folder / "out").string();
  expect_exit(64, {"model", "init", "--out", out}, {"--tokenizer-text", "--like"});
  expect_exit(64, {"model", "init", "--like", like, "--preset", "tiny", "--out", out}, {"--preset"});
  expect_exit(64, {"model", "init", "--preset", "huge", "--out", out}, {"--preset", "huge", "tiny"});
  expect_exit(64, {"model", "init", "--like", like, "--out", out, "--dtype", "int8"}, {"--dtype"});
  expect_exit(64, {"model", "init", "--like", like, "--out", out, "--max-shard-size", "5 apples"},
              {"5 apples"});
  expect_exit(64, {"model", "init", "--like", like, "--out", out, "--max-shard-size", "0"}, {"`0`"});
  expect_exit(74, {"model", "init", "--like", out + "/config.json", "--out", out}, {"config.json"});
  expect_exit(64, {"model", "init", "--like", like, "--out", bench.base.string()}, {"exists"});
  CHECK_FALSE(fs::exists(out));
}

/// A shape whose 800 MB take long enough to be interrupted.
fs::path large_config(const ModelBench& bench) {
  return config_like(bench, [](json& config) {
    config["text_config"]["intermediate_size"] = 1 << 18;
    config["text_config"]["num_hidden_layers"] = 2;
  });
}

TEST_CASE("a model that is interrupted while it is written leaves nothing, by a signal or on a full disk") {
  const ModelBench bench;
  const fs::path config = large_config(bench), out = bench.folder / "out";
  const Words words{"model", "init", "--like", config.string(), "--out", out.string()};
  const auto begun = [&](pid_t child) {
    while (!fs::exists(out.string() + ".tmp") && ::kill(child, 0) == 0) std::this_thread::yield();
    ::kill(child, SIGTERM);
  };
  const ProgramRun stopped = run_ferro(words, begun);
  CHECK(stopped.exit_code == 75);
  CHECK_THAT(stopped.err, Catch::Contains("told to stop"));
  CHECK_FALSE(fs::exists(out));
  CHECK_FALSE(fs::exists(out.string() + ".tmp"));

  const fs::path disk = bench.folder / "disk";
  fs::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=4m") != 0) {
    std::cout << "FERRO_SKIPPED: mounting a small tmpfs needs rights this process does not have\n";
    return;
  }
  const ProgramRun full =
      run_ferro({"model", "init", "--like", config.string(), "--out", (disk / "out").string()});
  const bool empty = fs::is_empty(disk);
  ::umount(disk.c_str());
  CHECK(full.exit_code == 74);
  CHECK_THAT(full.err, Catch::Contains("No space left"));
  CHECK(empty);
}

TEST_CASE("a model that a killed process left half written is not opened, and gives way to the next") {
  const ModelBench bench;
  const fs::path config = large_config(bench), out = bench.folder / "out", half = out.string() + ".tmp";
  const auto begun = [&](pid_t child) {
    while (!fs::exists(half / "config.json") && ::kill(child, 0) == 0) std::this_thread::yield();
    ::kill(child, SIGKILL);
  };
  CHECK(run_ferro({"model", "init", "--like", config.string(), "--out", out.string()}, begun).exit_code ==
        137);
  CHECK_FALSE(fs::exists(out));
  expect_exit(74, {"generate", "--model", half.string(), "--prompt", "x"}, {"model.safetensors"});
  succeed({"model", "init", "--like", (bench.base / "config.json").string(), "--out", out.string()});
  CHECK_FALSE(fs::exists(half));
}

TEST_CASE("several images and a video are asked about, in order") {
  const ModelBench bench;
  const Words question{"--prompt", "What is it?", "-n", "5", "--ids"};
  const auto ids = [&](const Words& media) {
    return succeed(bench.ask("generate", joined(question, media))).out;
  };
  // 48 pixels make 4 tokens; two frames share a patch.
  const std::string a = bench.picture("a.png"), b = bench.picture("b.png");
  CHECK_FALSE(ids({"--image", a, "--image", b}).empty());
  CHECK_FALSE(ids({"--image", a, "--video", a, b, a, "--fps", "4"}).empty());
  CHECK(ids({"--image", a, "--image", b}) != ids({"--image", a}));
  // The template writes what --raw says by hand.
  const std::string raw =
      "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What is "
      "it?<|im_end|>\n<|im_start|>assistant\n";
  CHECK(succeed(bench.ask("generate", {"--raw", "--prompt", raw, "--image", a, "-n", "5", "--ids"})).out ==
        ids({"--image", a, "--system-prompt", "none"}));
}

TEST_CASE("a prompt that would lose image tokens is refused with its pictures' names") {
  const ModelBench bench;
  expect_exit(65,
              bench.ask("generate", {"--prompt", "What is it?", "--image", bench.picture("a.png"), "--image",
                                     bench.picture("b.png"), "--max-prompt-length", "20"}),
              {"a.png", "b.png", "8 of them from 2 images", "max_prompt_length is 20"});
  // An empty question is one too; none at all is not.
  succeed(bench.ask("generate", {"--prompt", "", "-n", "2"}));
  succeed(bench.ask("generate", {"--prompt", "", "--image", bench.picture("a.png"), "-n", "2"}));
  expect_exit(64, bench.ask("generate", {"-n", "2"}), {"--prompt"});
  expect_exit(64, bench.ask("generate", {"--raw", "--prompt", ""}), {"empty"});
  expect_exit(65, bench.ask("generate", {"--raw", "--prompt", "x<|image_pad|>"}),
              {"more placeholders than its 0"});
  expect_exit(65, bench.ask("generate", {"--raw", "--prompt", "x", "--image", bench.picture("a.png")}),
              {"a.png", "1 images and videos given"});
}

TEST_CASE("what cannot be asked or scored is refused by its name") {
  const ModelBench bench;
  const std::string broken = "caf\xc3";
  expect_exit(64, bench.ask("generate", {"--prompt", broken}), {"not valid UTF-8"});
  expect_exit(64, bench.ask("generate", {"--question", broken}), {"not valid UTF-8"});
  expect_exit(64, bench.ask("score", {"--prompt", "x", "--response", broken}),
              {"--response is not valid UTF-8"});
  expect_exit(64, bench.ask("score", {"--prompt", broken, "--response", "x"}), {"not valid UTF-8"});
  for (const char* nothing : {"", " ", ","})
    expect_exit(64, bench.ask("score", {"--prompt", "x", "--ids", nothing}), {"--ids"});
  expect_exit(64, bench.ask("score", {"--prompt", "x", "--ids", "1 two"}), {"1 two"});
  expect_exit(64, bench.ask("score", {"--prompt", "x", "--ids", "99999"}), {"99999"});
  for (const char* option : {"--temperature", "--top-p", "--min-p", "--fps"})
    for (const char* value : {"nan", "-1", "inf", "x"})
      expect_exit(64, bench.ask("generate", {"--prompt", "x", option, value}), {option});
  expect_exit(64, bench.ask("score", {"--prompt", "x", "--ids", "1", "-t", "nan"}), {"nan"});
  expect_exit(64, bench.ask("generate", {}), {"--prompt"});
  expect_exit(64, bench.ask("generate", {"--prompt", "x", "--ids", "--logprobs"}), {"--ids", "--logprobs"});
  expect_exit(74, bench.ask("generate", {"--prompt", "x", "--image", "nowhere.png"}), {"nowhere.png"});
  expect_exit(74, bench.ask("generate", {"--prompt", "x", "--video", "nowhere.png"}), {"nowhere.png"});
}

TEST_CASE("answers that no memory holds are refused with what to lower") {
  const ModelBench bench;
  for (const char* command : {"generate", "eval"})
    expect_exit(64, bench.ask(command, {"-n", "1000000000"}), {"--max-new-tokens", "1048576"});
  // 2^20 tokens of each of 512 answers; 64 layers of 2 key and value heads of 32 numbers are 32 kB a token,
  // in all 17 TB.
  json config = json::parse(read_file(bench.base / "config.json"));
  config["text_config"]["num_hidden_layers"] = 64;
  write_file_atomically(bench.base / "config.json", config.dump());
  const std::string deep = (bench.folder / "deep").string();
  succeed({"model", "init", "--like", (bench.base / "config.json").string(), "--out", deep});
  expect_exit(64, {"generate", "--model", deep, "--prompt", "x", "-n", "1048576", "-g", "512"},
              {"GB for keys and values", "--max-new-tokens or --num-generations"});
}

TEST_CASE("an evaluation whose report has no place is refused before it begins") {
  const ModelBench bench;
  const std::string rows = (bench.folder / "rows.json").string(), folder = (bench.folder / "taken").string();
  fs::create_directory(folder);
  for (const char* option : {"--json", "--out"}) {
    // No model is there either: were one read first, the message would name it.
    expect_exit(64, {"eval", "--model", "/no/such", "--data", rows, option, folder},
                {option, folder, "is a folder"});
    expect_exit(74, {"eval", "--model", "/no/such", "--data", rows, option, rows + "/figures"}, {rows});
  }
  const std::string fresh = (bench.folder / "fresh" / "figures.json").string();
  succeed(bench.ask("eval", {"--data", rows, "-n", "2", "--json", fresh}));
  CHECK(json::parse(read_file(fresh)).at("count") == 1);
}

TEST_CASE(
    "an answer ends where the folder's generation_config.json says, and a model made from it keeps the "
    "file") {
  const ModelBench bench;
  const auto ids = [&](const fs::path& model) {
    std::istringstream line(
        succeed({"generate", "--model", model.string(), "--prompt", "What is it?", "-n", "6", "--ids"}).out);
    return std::vector<int>(std::istream_iterator<int>(line), {});
  };
  const std::vector<int> whole = ids(bench.base);
  REQUIRE(whole.size() == 6);
  // The third token of the greedy answer, beside one that never comes, ends it where it comes first.
  const auto end = std::find(whole.begin(), whole.end(), whole[2]) + 1;
  const std::string settings = json{{"eos_token_id", {0, whole[2]}}, {"temperature", 0.1}}.dump();
  write_file_atomically(bench.base / "generation_config.json", settings);
  CHECK(ids(bench.base) == std::vector<int>(whole.begin(), end));
  CHECK_THAT(succeed({"model", "inspect", bench.base.string()}).out,
             Catch::Contains("answers end at [0, " + std::to_string(whole[2]) + "]"));
  const fs::path like = bench.folder / "like";
  succeed({"model", "init", "--like", (bench.base / "config.json").string(), "--out", like.string()});
  CHECK(read_file(like / "generation_config.json") == settings);
}

}  // namespace
}  // namespace ferro::testing
