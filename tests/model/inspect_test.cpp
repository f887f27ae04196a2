#include "model/inspect.h"

#include <algorithm>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "data/image_processor_config.h"
#include "model/model_folder.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"
#include "tests/model/small_model.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;
using testing::ScratchFolder;
using testing::small_model;

/// What the published sizes differ in.
struct Published {
  const char* name;
  std::int64_t width, inner, layers, heads, key_heads, vocabulary, vision_inner;
  bool tied;
  std::int64_t parameters;  ///< Half of `total_size` in the hub's index of the bfloat16 shards.
};
constexpr Published kPublished[] = {{"3B", 2048, 11008, 36, 16, 2, 151936, 3420, true, 3'754'622'976},
                                    {"7B", 3584, 18944, 28, 28, 4, 152064, 3420, false, 8'292'166'656},
                                    {"32B", 5120, 27648, 64, 40, 8, 152064, 3456, false, 33'452'718'336},
                                    {"72B", 8192, 29568, 80, 64, 8, 152064, 3456, false, 73'410'777'344}};

/// config.json as the hub has it: flat, with the old rotary keys.
fs::path published_config(const ScratchFolder& scratch, const Published& size) {
  const nlohmann::json config = {{"model_type", "qwen2_5_vl"},
                                 {"torch_dtype", "bfloat16"},
                                 {"hidden_size", size.width},
                                 {"intermediate_size", size.inner},
                                 {"num_hidden_layers", size.layers},
                                 {"num_attention_heads", size.heads},
                                 {"num_key_value_heads", size.key_heads},
                                 {"vocab_size", size.vocabulary},
                                 {"tie_word_embeddings", size.tied},
                                 {"rms_norm_eps", 1e-6},
                                 {"rope_theta", 1e6},
                                 {"rope_scaling", {{"type", "mrope"}, {"mrope_section", {16, 24, 24}}}},
                                 {"image_token_id", 151655},
                                 {"video_token_id", 151656},
                                 {"vision_config",
                                  {{"depth", 32},
                                   {"hidden_size", 1280},
                                   {"intermediate_size", size.vision_inner},
                                   {"num_heads", 16},
                                   {"out_hidden_size", size.width},
                                   {"fullatt_block_indexes", {7, 15, 23, 31}}}}};
  write_file_atomically(scratch / "config.json", config.dump());
  return scratch / "config.json";
}

TEST_CASE("the published sizes are counted to the parameter from config.json alone") {
  const ScratchFolder scratch;
  for (const Published& size : kPublished) {
    INFO(size.name);
    const fs::path config_json = published_config(scratch, size);
    const ModelConfig config = ModelConfig::load(config_json);
    std::int64_t parameters = 0, bytes = 0;
    for (const PartSummary& part : summarise_parts(config, 2)) {
      parameters += part.parameters;
      bytes += part.bytes;
    }
    CHECK(parameters == size.parameters);
    CHECK(bytes == 2 * size.parameters);
    const Inspection inspection = inspect_model(config_json, false);
    CHECK(inspection.problems.empty());
    CHECK_THAT(inspection.report, Catch::Contains(std::to_string(size.parameters)) &&
                                      Catch::Contains("as bfloat16") && Catch::Contains("work"));
    // A folder that holds nothing else says the same.
    CHECK(inspect_model(scratch.path(), false).report.substr(scratch.path().string().size()) ==
          inspection.report.substr(config_json.string().size()));
  }
}

TEST_CASE("the work of 7B per token is that of its matrices") {
  const ScratchFolder scratch;
  const Work work = forward_work(ModelConfig::load(published_config(scratch, kPublished[1])));
  // A block: q and o 3584^2 each, k and v 3584 * 512 each, three of 3584 * 18944. Head: 152064 * 3584.
  const double decoder = 2.0 * 28 * (2.0 * 3584 * 3584 + 2.0 * 3584 * 512 + 3.0 * 3584 * 18944);
  CHECK(work.text_token == decoder + 2.0 * 152064 * 3584);
  // A patch: 1176 * 1280 once, then 32 blocks of 4 * 1280^2 and three of 1280 * 3420; an image token has
  // four.
  const double patch = 2.0 * (1176.0 * 1280 + 32 * (4.0 * 1280 * 1280 + 3.0 * 1280 * 3420));
  const double merger = 2.0 * (5120.0 * 5120 + 5120.0 * 3584);
  CHECK(work.image_token == decoder + 4 * patch + merger);
  CHECK(work.attention_per_token == 4.0 * 28 * 3584);
  // 28 blocks see windows of 64 patches, four see the picture: 4 patches for each of its tokens.
  CHECK(work.window_attention == 4.0 * 4 * 1280 * 28 * 64);
  CHECK(work.full_attention == 4.0 * 4 * 1280 * 4 * 4);
  CHECK(work.cache_values == 2 * 28 * 4 * 128);
}

TEST_CASE("blocks of full attention that are not there take no work") {
  const ScratchFolder scratch;
  ModelConfig config = ModelConfig::load(published_config(scratch, kPublished[1]));
  const Work work = forward_work(config);
  config.vision.fullatt_block_indexes = {-1, 7, 7, 15, 23, 31, 32, 100};
  CHECK(forward_work(config).window_attention == work.window_attention);
  CHECK(forward_work(config).full_attention == work.full_attention);
}

TEST_CASE("a report names every tensor that is not the model's, and sums its parts") {
  const ScratchFolder scratch;
  const Model model = small_model(true, true);
  const fs::path folder = scratch / "model";
  save_model(model, folder, {});
  CHECK(inspect_model(folder, false).problems.empty());

  std::vector<NamedShape> tensors{{"visual.surprise", {2}}};
  for (const ParameterInfo& info : model.arena.table.parameters)
    if (info.name != "model.norm.weight") tensors.push_back({info.name, info.shape});
  write_safetensors(folder / "model.safetensors", tensors, at::kFloat, [&](const std::string& name) {
    return name == "visual.surprise" ? at::ones({2}) : model.arena.export_parameter(name);
  });
  const Inspection inspection = inspect_model(folder, true);
  CHECK(inspection.problems ==
        std::vector<std::string>{"missing: model.norm.weight [40]", "extra: visual.surprise"});
  CHECK_THAT(inspection.report, Catch::Contains("problem  missing: model.norm.weight") &&
                                    Catch::Contains("model.layers.1.mlp.up_proj.weight"));

  const std::vector<PartSummary> parts = summarise_parts(model.config);
  std::int64_t sum = 0;
  for (const PartSummary& part : parts) sum += part.parameters;
  CHECK(sum == model.arena.table.num_parameters());
  // Decoder, by hand: 2 blocks of q 40*40, k and v 20*40 each, o 40*40, three of 50*40; 2 per multiply-add.
  CHECK(parts[3].flops_per_token == 2.0 * 2 * (1600 + 800 + 800 + 1600 + 3 * 2000));
  // Tied head: 67 * 40 multiply-adds, but only the final norm's 40 parameters.
  CHECK(parts[4].flops_per_token == 2.0 * 67 * 40);
  CHECK(parts[4].parameters == 40);
}

TEST_CASE("a tied model whose file holds another head is a problem, and does not load") {
  const ScratchFolder scratch;
  const fs::path folder = scratch / "model";
  const Model model = small_model(true, true);
  const auto write_with_head = [&](double added) {
    std::vector<NamedShape> tensors{{"lm_head.weight", {67, 40}}};
    for (const ParameterInfo& info : model.arena.table.parameters) tensors.push_back({info.name, info.shape});
    write_safetensors(folder / "model.safetensors", tensors, at::kFloat, [&](const std::string& name) {
      return name == "lm_head.weight" ? model.arena.export_parameter("model.embed_tokens.weight").add(added)
                                      : model.arena.export_parameter(name);
    });
  };
  save_model(model, folder, {});
  write_with_head(0);
  CHECK(inspect_model(folder, false).problems.empty());
  write_with_head(0.5);
  const Inspection inspection = inspect_model(folder, false);
  REQUIRE(inspection.problems.size() == 1);
  CHECK_THAT(inspection.problems[0], Catch::Contains("ties the head") && Catch::Contains("lm_head.weight"));
  testing::expect_error(ErrorCode::kData, [&] { load_model(folder, false); },
                        {"ties the head", "lm_head.weight"});
}

TEST_CASE("shards without their index are no model") {
  const ScratchFolder scratch;
  const fs::path folder = scratch / "model";
  save_model(small_model(true, true), folder, {});
  fs::rename(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors");
  testing::expect_error(ErrorCode::kIo, [&] { inspect_model(folder, false); },
                        {"model.safetensors.index.json"});
}

namespace {

/// A small model and the processor that fits it.
ImageProcessorConfig save_with_processor(const fs::path& folder) {
  save_model(small_model(true, true), folder, {});
  ImageProcessorConfig processor;
  processor.patch_size = 4;
  processor.save(folder / "preprocessor_config.json");
  return processor;
}

}  // namespace

TEST_CASE("a processor that cuts other patches than the model takes is a problem") {
  const ScratchFolder scratch;
  const fs::path folder = scratch / "model";
  ImageProcessorConfig processor = save_with_processor(folder);
  CHECK_THAT(inspect_model(folder, false).report,
             Catch::Contains("as config.json says, 3136 to 12845056 pixels"));
  processor.merge_size = 3;
  processor.save(folder / "preprocessor_config.json");
  const Inspection inspection = inspect_model(folder, false);
  REQUIRE(inspection.problems.size() == 1);
  CHECK_THAT(inspection.problems[0],
             Catch::Contains("merge_size is 3") && Catch::Contains("config.json says 2"));
}

TEST_CASE("the image processor that a report shows is the nested one where there is one") {
  const ScratchFolder scratch;
  const fs::path folder = scratch / "model";
  save_with_processor(folder);
  write_file_atomically(folder / "processor_config.json",
                        R"({"image_processor": {"patch_size": 4, "size": {"shortest_edge": 64,
                            "longest_edge": 2304}}})");
  CHECK_THAT(inspect_model(folder, false).report,
             Catch::Contains("images   processor_config.json: ") && Catch::Contains("64 to 2304 pixels"));
  fs::remove(folder / "preprocessor_config.json");
  CHECK_THAT(inspect_model(folder, false).report, Catch::Contains("64 to 2304 pixels"));
  write_file_atomically(folder / "processor_config.json", R"({"image_processor": {"patch_size": 7}})");
  const Inspection inspection = inspect_model(folder, false);
  REQUIRE(inspection.problems.size() == 1);
  CHECK_THAT(inspection.problems[0], Catch::Contains("processor_config.json: patch_size is 7") &&
                                         Catch::Contains("config.json says 4"));
  // An older processor_config.json says nothing of pictures.
  write_file_atomically(folder / "processor_config.json", R"({"processor_class": "Qwen2_5_VLProcessor"})");
  CHECK(inspect_model(folder, false).problems.empty());
}

TEST_CASE("what is neither a folder nor a configuration is refused") {
  const ScratchFolder scratch;
  testing::expect_error(ErrorCode::kIo, [&] { inspect_model(scratch / "nothing", false); }, {"nothing"});
  write_file_atomically(scratch / "notes.txt", "hello");
  testing::expect_error(ErrorCode::kData, [&] { inspect_model(scratch / "notes.txt", false); },
                        {"notes.txt", "not JSON"});
}

}  // namespace
}  // namespace ferro
