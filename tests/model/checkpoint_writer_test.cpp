#include "model/checkpoint_writer.h"

#include <set>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "model/model_folder.h"
#include "model/random_checkpoint.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"
#include "tests/model/file_size_limit.h"
#include "tests/model/small_model.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;
using testing::ScratchFolder;
using testing::small_config;
using testing::small_model;

std::vector<std::string> weight_files(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::string content_of(const fs::path& folder) {
  std::set<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.insert(entry.path());
  std::string all;
  for (const fs::path& file : files) all += file.filename().string() + "\n" + read_file(file);
  return all;
}

TEST_CASE("a shard ends where the next tensor would take it above its size") {
  // Bytes in fp32: 40, 40, 400, 20.
  const std::vector<NamedShape> tensors{{"a", {10}}, {"b", {10}}, {"c", {10, 10}}, {"d", {5}}};
  const auto names_of = [](const ShardPlan& plan) {
    std::string names;
    for (const ShardPlan::Shard& shard : plan.shards) {
      names += shard.file + ":";
      for (const NamedShape& tensor : shard.tensors) names += tensor.name;
      names += " ";
    }
    return names;
  };
  CHECK(names_of(plan_shards(tensors, at::kFloat, 500)) == "model.safetensors:abcd ");
  CHECK(names_of(plan_shards(tensors, at::kFloat, 499)) ==
        "model-00001-of-00002.safetensors:abc model-00002-of-00002.safetensors:d ");
  // One tensor alone is larger than a shard may be.
  CHECK(names_of(plan_shards(tensors, at::kFloat, 80)) ==
        "model-00001-of-00003.safetensors:ab model-00002-of-00003.safetensors:c "
        "model-00003-of-00003.safetensors:d ");
  CHECK(names_of(plan_shards(tensors, at::kBFloat16, 250)) == "model.safetensors:abcd ");
  const ShardPlan plan = plan_shards(tensors, at::kBFloat16, 80);
  CHECK(plan.num_parameters == 125);
  CHECK(plan.num_bytes == 250);
}

TEST_CASE("a model saved in shards loads bit by bit, and its index is what Hugging Face writes") {
  const ScratchFolder scratch;
  for (const bool tied : {true, false}) {
    const Model model = small_model(tied, true);
    const fs::path folder = scratch / "model";
    const std::string checksum = save_model(model, folder, {}, at::kFloat, 30'000);
    CHECK(load_model(folder, false).arena.weights.equal(model.arena.weights));

    const std::vector<std::string> files = weight_files(folder);
    REQUIRE(files.size() > 2);
    std::string sums;
    std::uint64_t bytes = 0;
    for (const std::string& file : files) {
      sums += sha256_of_file(folder / file) + "  " + file + "\n";
      CHECK(fs::file_size(folder / file) < 30'000 + 10'000);  // And a header.
      const SafetensorsFile read(folder / file);
      for (const auto& [name, entry] : read.entries()) bytes += entry.end - entry.begin;
    }
    CHECK(checksum == sha256_of(sums));
    const auto index = nlohmann::json::parse(read_file(folder / "model.safetensors.index.json"));
    CHECK(index.at("metadata").at("total_size") == bytes);
    CHECK(index.at("metadata").at("total_parameters") == model.arena.table.num_parameters());
    CHECK(index.at("weight_map").size() == model.arena.table.parameters.size());
    CHECK(index.at("weight_map").at("visual.patch_embed.proj.weight") == files.front());
    CHECK(index.at("weight_map").at("model.norm.weight") == files.back());
  }
}

TEST_CASE("one file replaces the shards of an older model, and the other way round") {
  const ScratchFolder scratch;
  const Model model = small_model(true, true);
  save_model(model, scratch / "model", {}, at::kFloat, 30'000);
  save_model(model, scratch / "model", {});
  CHECK(weight_files(scratch / "model") == std::vector<std::string>{"model.safetensors"});
  CHECK_FALSE(fs::exists(scratch / "model" / "model.safetensors.index.json"));
  save_model(model, scratch / "model", {}, at::kFloat, 30'000);
  CHECK_FALSE(fs::exists(scratch / "model" / "model.safetensors"));
  CHECK(load_model(scratch / "model", false).arena.weights.equal(model.arena.weights));
}

TEST_CASE("generation settings of the source come along, a fresh model's are its special ids") {
  const ScratchFolder scratch;
  const Model model = small_model(true, true);
  save_model(model, scratch / "fresh", {});
  CHECK(nlohmann::json::parse(read_file(scratch / "fresh" / "generation_config.json")).at("eos_token_id") ==
        nlohmann::json({65, 64}));
  const std::string settings = R"({"eos_token_id": [65, 64], "repetition_penalty": 1.05})";
  write_file_atomically(scratch / "fresh" / "generation_config.json", settings);
  save_model(model, scratch / "tuned", scratch / "fresh");
  CHECK(read_file(scratch / "tuned" / "generation_config.json") == settings);
  CHECK(load_model(scratch / "tuned", false).config.stop_ids() == std::vector<std::int32_t>{65, 64});
}

TEST_CASE("a random model streamed to disk is, byte by byte, a saved one of the same seed") {
  const ScratchFolder scratch;
  for (const bool tied : {true, false}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      for (const std::uint64_t shard : {kDefaultShardBytes, std::uint64_t{20'000}}) {
        const Model model = small_model(tied, true, 5);
        const std::string saved = save_model(model, scratch / "saved", {}, dtype, shard);
        const std::string streamed = write_random_model(
            scratch / "streamed", small_config(tied), {.seed = 5, .dtype = dtype, .max_shard_bytes = shard});
        CHECK(streamed == saved);
        CHECK(content_of(scratch / "streamed") == content_of(scratch / "saved"));
      }
    }
  }
  CHECK(write_random_model(scratch / "streamed", small_config(true), {.seed = 6}) !=
        write_random_model(scratch / "streamed", small_config(true), {.seed = 5}));
}

TEST_CASE("a random model that is stopped on the way leaves nothing") {
  const ScratchFolder scratch;
  std::stop_source stop;
  stop.request_stop();
  testing::expect_error(
      ErrorCode::kCheckpointed,
      [&] { write_random_model(scratch / "model", small_config(true), {.stop = stop.get_token()}); },
      {"model", "told to stop"});
  CHECK(fs::is_empty(scratch.path()));
}

TEST_CASE("a model that has no room on the disk is refused before anything is written") {
  const ScratchFolder scratch;
  const testing::FileSizeLimit limit(1'000'000);  // Nothing is to be written; were it, it ends here.
  // An embedding of 70 terabytes.
  ModelConfig config = small_config(true);
  config.text.vocab_size = 1 << 24;
  config.text.hidden_size = config.vision.out_hidden_size = 1 << 20;
  testing::expect_error(ErrorCode::kIo, [&] { write_random_model(scratch / "model", config, {}); },
                        {"model.safetensors", "No space left", "are free"});
  CHECK(fs::is_empty(scratch.path()));
}

}  // namespace
}  // namespace ferro
