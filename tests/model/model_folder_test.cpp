#include "model/model_folder.h"

#include <sys/mount.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "model/image_processor.h"
#include "model/safetensors.h"
#include "model/tensor_names.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"
#include "tests/model/file_size_limit.h"
#include "tests/model/small_model.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;
using testing::ScratchFolder;
using testing::small_model;
using Tensors = std::vector<std::pair<std::string, at::Tensor>>;

Tensors tensors_of(const Model& model) {
  Tensors tensors;
  for (const ParameterInfo& info : model.arena.table.parameters)
    tensors.emplace_back(info.name, model.arena.export_parameter(info.name));
  return tensors;
}

void write_tensors(const fs::path& path, const Tensors& tensors, at::ScalarType dtype = at::kFloat) {
  std::vector<NamedShape> shapes;
  std::map<std::string, at::Tensor> by_name;
  for (const auto& [name, tensor] : tensors) {
    shapes.push_back({name, tensor.sizes().vec()});
    by_name[name] = tensor;
  }
  write_safetensors(path, shapes, dtype, [&](const std::string& name) { return by_name.at(name); });
}

/// A folder with config.json of the model and these tensors in one file.
fs::path folder_with(const ScratchFolder& scratch, const Model& model, const Tensors& tensors) {
  const fs::path folder = scratch / "given";
  fs::create_directories(folder);
  model.config.save(folder / "config.json");
  write_tensors(folder / "model.safetensors", tensors);
  return folder;
}

TEST_CASE("a saved model loads bit by bit, tied or not, from either layout") {
  const ScratchFolder scratch;
  for (const bool tied : {true, false}) {
    for (const bool panels : {true, false}) {
      const Model model = small_model(tied, panels);
      const std::string checksum = save_model(model, scratch / "model", {});
      CHECK(checksum == sha256_of_file(scratch / "model" / "model.safetensors"));
      const Model same = load_model(scratch / "model", true, panels);
      CHECK(same.arena.weights.equal(model.arena.weights));
      CHECK(same.arena.gradients.count_nonzero().item<std::int64_t>() == 0);
      const Model other = load_model(scratch / "model", false, !panels);
      for (const ParameterInfo& info : model.arena.table.parameters)
        CHECK(other.arena.export_parameter(info.name).equal(model.arena.export_parameter(info.name)));
      // A second save writes the same bytes.
      CHECK(save_model(other, scratch / "again", {}) == checksum);
    }
  }
}

TEST_CASE("saving in bfloat16 rounds once and says so in config.json") {
  const ScratchFolder scratch;
  const Model model = small_model(true, true);
  save_model(model, scratch / "model", {}, at::kBFloat16);
  const Model rounded = load_model(scratch / "model", false);
  CHECK(rounded.arena.weights.equal(model.arena.weights.to(at::kBFloat16).to(at::kFloat)));
  const auto config = nlohmann::json::parse(read_file(scratch / "model" / "config.json"));
  CHECK(config.at("dtype") == "bfloat16");
}

TEST_CASE("tokenizer, template, processor and generation files come along to the byte, and nothing else") {
  // All that transformers' tokenizer, processor and generation look for in a folder.
  const char* const names[] = {"tokenizer.json",
                               "tokenizer_config.json",
                               "special_tokens_map.json",
                               "added_tokens.json",
                               "vocab.json",
                               "merges.txt",
                               "chat_template.json",
                               "chat_template.jinja",
                               "preprocessor_config.json",
                               "video_preprocessor_config.json",
                               "processor_config.json",
                               "generation_config.json"};
  const ScratchFolder scratch;
  const fs::path source = scratch / "source", saved = scratch / "model";
  fs::create_directories(source);
  const auto content = [](const std::string& name) { return "content of " + name + "\r\n\xff"; };
  for (const char* name : names) write_file_atomically(source / name, content(name));
  for (const char* name : {"notes.txt", "config.json"}) write_file_atomically(source / name, "other");
  save_model(small_model(true, true), saved, source);
  for (const char* name : names) {
    INFO(name);
    REQUIRE(fs::exists(saved / name));
    CHECK(read_file(saved / name) == content(name));
  }
  CHECK_FALSE(fs::exists(saved / "notes.txt"));
  CHECK(ModelConfig::load(saved / "config.json").text.vocab_size == 67);
  // Beside them config.json and model.safetensors.
  CHECK(std::distance(fs::directory_iterator(saved), fs::directory_iterator()) ==
        static_cast<std::ptrdiff_t>(std::size(names)) + 2);
}

TEST_CASE("a saved model processes pictures as its source, whichever file says how") {
  const ScratchFolder scratch;
  const fs::path source = scratch / "source", saved = scratch / "model";
  const Model model = small_model(true, true);
  fs::create_directories(source);
  testing::expect_error(ErrorCode::kIo, [&] { load_image_processor(source, model.config); },
                        {"preprocessor_config.json", "processor_config.json", "image_processor"});
  write_file_atomically(source / "processor_config.json",
                        R"({"image_processor": {"patch_size": 4, "max_pixels": 2304, "min_pixels": 64}})");
  save_model(model, saved, source);
  CHECK(load_image_processor(saved, model.config).config.max_pixels == 2304);
  ImageProcessorConfig other;
  other.patch_size = 4;
  other.save(source / "preprocessor_config.json");
  save_model(model, saved, source);
  CHECK(load_image_processor(saved, model.config).config.max_pixels == 2304);
  fs::remove(source / "processor_config.json");
  save_model(model, saved, source);
  CHECK(load_image_processor(saved, model.config).config.max_pixels == other.max_pixels);
}

TEST_CASE("an existing model is replaced whole, and a folder that is no model is left alone") {
  const ScratchFolder scratch;
  save_model(small_model(true, true, 1), scratch / "model", {});
  write_file_atomically(scratch / "model" / "stale.txt", "x");
  const Model second = small_model(false, true, 2);
  save_model(second, scratch / "model", scratch / "model");
  CHECK(load_model(scratch / "model", false).arena.weights.equal(second.arena.weights));
  CHECK_FALSE(fs::exists(scratch / "model" / "stale.txt"));
  CHECK_FALSE(fs::exists(scratch / "model.tmp"));

  fs::create_directories(scratch / "photos");
  write_file_atomically(scratch / "photos" / "cat.jpg", "x");
  testing::expect_error(ErrorCode::kIo, [&] { save_model(second, scratch / "photos", {}); },
                        {"photos", "not a model folder"});
  CHECK(fs::exists(scratch / "photos" / "cat.jpg"));
}

TEST_CASE("shards, in-memory names and rotary buffers are read") {
  const ScratchFolder scratch;
  const Model model = small_model(false, true);
  const fs::path folder = scratch / "sharded";
  fs::create_directories(folder);
  model.config.save(folder / "config.json");
  Tensors shards[2];
  nlohmann::json map;
  std::size_t count = 0;
  for (const auto& [name, tensor] : tensors_of(model)) {
    const std::size_t shard = count++ % 2;
    shards[shard].emplace_back(in_memory_tensor_name(name), tensor);
    map[in_memory_tensor_name(name)] = shard == 0 ? "a.safetensors" : "b.safetensors";
  }
  shards[0].emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq", at::ones({4}));
  map["model.layers.0.self_attn.rotary_emb.inv_freq"] = "a.safetensors";
  write_tensors(folder / "a.safetensors", shards[0]);
  write_tensors(folder / "b.safetensors", shards[1]);
  const fs::path index = folder / "model.safetensors.index.json";
  write_file_atomically(index, nlohmann::json{{"weight_map", map}}.dump());
  CHECK(load_model(folder, false).arena.weights.equal(model.arena.weights));

  SECTION("an index that points outside the folder is refused") {
    map["lm_head.weight"] = "../b.safetensors";
    write_file_atomically(index, nlohmann::json{{"weight_map", map}}.dump());
    testing::expect_error(ErrorCode::kData, [&] { load_model(folder, false); },
                          {"lm_head.weight", "../b.safetensors"});
  }
  SECTION("an index that names the wrong shard is refused") {
    map["lm_head.weight"] = map["lm_head.weight"] == "a.safetensors" ? "b.safetensors" : "a.safetensors";
    write_file_atomically(index, nlohmann::json{{"weight_map", map}}.dump());
    testing::expect_error(ErrorCode::kData, [&] { load_model(folder, false); },
                          {"lm_head.weight", "is not in"});
  }
  SECTION("a missing shard is named") {
    fs::remove(folder / "b.safetensors");
    testing::expect_error(ErrorCode::kIo, [&] { load_model(folder, false); }, {"b.safetensors"});
  }
  SECTION("a broken index is named") {
    write_file_atomically(index, "{\"weight_map\": ");
    testing::expect_error(ErrorCode::kData, [&] { load_model(folder, false); }, {"index.json", "not JSON"});
  }
}

TEST_CASE("missing, extra, misshapen and integer tensors are all listed") {
  const ScratchFolder scratch;
  const Model model = small_model(true, true);
  Tensors tensors;
  for (auto& [name, tensor] : tensors_of(model)) {
    if (name == "model.norm.weight" || name == "visual.blocks.1.attn.qkv.bias") continue;
    tensors.emplace_back(name, name == "visual.merger.ln_q.weight" ? at::ones({25}) : tensor);
  }
  tensors.emplace_back("model.layers.2.input_layernorm.weight", at::ones({40}));
  const fs::path folder = folder_with(scratch, model, tensors);
  testing::expect_error(
      ErrorCode::kData, [&] { load_model(folder, false); },
      {folder.string(), "missing: model.norm.weight [40]", "missing: visual.blocks.1.attn.qkv.bias [72]",
       "wrong shape: visual.merger.ln_q.weight is [25], expected [24]",
       "extra: model.layers.2.input_layernorm.weight"});
}

TEST_CASE("a tied model may bring its head only as a copy of the embedding") {
  const ScratchFolder scratch;
  const Model model = small_model(true, true);
  Tensors tensors = tensors_of(model);
  tensors.emplace_back("lm_head.weight", model.arena.export_parameter("model.embed_tokens.weight"));
  CHECK(load_model(folder_with(scratch, model, tensors), false).arena.weights.equal(model.arena.weights));
  tensors.back().second[3][4] += 1;
  testing::expect_error(ErrorCode::kData, [&] { load_model(folder_with(scratch, model, tensors), false); },
                        {"lm_head.weight", "differs"});
}

TEST_CASE("a tensor under both of its names is refused") {
  const ScratchFolder scratch;
  const Model model = small_model(true, true);
  Tensors tensors = tensors_of(model);
  tensors.emplace_back("model.language_model.norm.weight", at::ones({40}));
  testing::expect_error(ErrorCode::kData, [&] { load_model(folder_with(scratch, model, tensors), false); },
                        {"model.norm.weight", "twice"});
}

TEST_CASE("a folder without weights is told from one with broken weights") {
  const ScratchFolder scratch;
  small_model(true, true).config.save(scratch / "config.json");
  testing::expect_error(ErrorCode::kIo, [&] { load_model(scratch.path(), false); }, {"model.safetensors"});
}

TEST_CASE("a save that cannot be finished leaves the old model and no traces") {
  const ScratchFolder scratch;
  const Model old = small_model(true, true, 1);
  save_model(old, scratch / "model", {});
  {
    const testing::FileSizeLimit limit(20'000);
    testing::expect_error(ErrorCode::kIo,
                          [&] { save_model(small_model(true, true, 2), scratch / "model", {}); },
                          {"model.safetensors"});
    testing::expect_error(ErrorCode::kIo, [&] { save_model(old, scratch / "new", {}); },
                          {"model.safetensors"});
  }
  CHECK(load_model(scratch / "model", false).arena.weights.equal(old.arena.weights));
  CHECK_FALSE(fs::exists(scratch / "model.tmp"));
  CHECK_FALSE(fs::exists(scratch / "new"));
  CHECK_FALSE(fs::exists(scratch / "new.tmp"));
}

TEST_CASE("on a full disk nothing is left behind") {
  const ScratchFolder scratch;
  const fs::path disk = scratch / "disk";
  fs::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k") != 0) {
    std::cout << "FERRO_SKIPPED: mounting a small tmpfs needs rights this process does not have\n";
    return;
  }
  testing::expect_error(ErrorCode::kIo, [&] { save_model(small_model(true, true), disk / "model", {}); },
                        {"model.safetensors", "No space left"});
  const bool empty = fs::is_empty(disk);
  ::umount(disk.c_str());
  CHECK(empty);
}

}  // namespace
}  // namespace ferro
