#include "model/config.h"

#include <functional>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "data/bpe_trainer.h"
#include "model/model_folder.h"
#include "model/qwen.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"
#include "tests/model/small_model.h"

namespace ferro {
namespace {

using nlohmann::json;
using testing::ScratchFolder;

/// config.json of the small model, nested, after `edit`.
std::filesystem::path edited(const ScratchFolder& scratch, const std::function<void(json&)>& edit) {
  const auto path = scratch / "config.json";
  testing::small_config(true).save(path);
  json root = json::parse(read_file(path));
  edit(root);
  write_file_atomically(path, root.dump());
  return path;
}

/// The same content as the hub writes it: text keys at the top, old rotary keys.
void flatten(json& root) {
  const json text = root["text_config"];
  root.erase("text_config");
  for (const auto& [key, value] : text.items())
    if (key != "model_type" && key != "rope_parameters" && key != "tie_word_embeddings") root[key] = value;
  root["rope_scaling"] = {{"mrope_section", text["rope_parameters"]["mrope_section"]}, {"type", "mrope"}};
  root["rope_theta"] = text["rope_parameters"]["rope_theta"];
  root["vision_config"]["in_chans"] = root["vision_config"]["in_channels"];
  root["vision_config"].erase("in_channels");
  root["vision_config"].erase("rope_parameters");
}

std::string saved_text(const ScratchFolder& scratch, const ModelConfig& config) {
  config.save(scratch / "again.json");
  return read_file(scratch / "again.json");
}

TEST_CASE("a nested config.json survives load and save unchanged") {
  const ScratchFolder scratch;
  const auto path = edited(scratch, [](json&) {});
  CHECK(json::parse(saved_text(scratch, ModelConfig::load(path))) == json::parse(read_file(path)));
}

TEST_CASE("flat and nested config.json say the same") {
  const ScratchFolder scratch;
  const std::string nested = saved_text(scratch, ModelConfig::load(edited(scratch, [](json&) {})));
  CHECK(saved_text(scratch, ModelConfig::load(edited(scratch, flatten))) == nested);
}

TEST_CASE("unknown keys are read over and not written") {
  const ScratchFolder scratch;
  const auto path = edited(scratch, [](json& root) {
    root["surprise"] = 1;
    root["vision_config"]["spatial_patch_size"] = 14;
  });
  const std::string text = saved_text(scratch, ModelConfig::load(path));
  CHECK_THAT(text, !Catch::Contains("surprise") && !Catch::Contains("spatial_patch_size"));
}

TEST_CASE("a head tied in text_config only, a list of end ids and absent ids are understood") {
  const ScratchFolder scratch;
  const ModelConfig config = ModelConfig::load(edited(scratch, [](json& root) {
    root.erase("tie_word_embeddings");
    root["text_config"]["tie_word_embeddings"] = true;
    root["text_config"]["eos_token_id"] = {65, 64};
    root["text_config"]["bos_token_id"] = nullptr;
    root["text_config"].erase("pad_token_id");
  }));
  CHECK(config.tie_word_embeddings);
  CHECK(config.eos_token_id == 65);
  CHECK(config.bos_token_id == -1);
  CHECK(config.pad_token_id == -1);
  CHECK(config.stop_ids() == std::vector<std::int32_t>{65, 64});
  CHECK(json::parse(saved_text(scratch, config)).at("text_config").at("eos_token_id") == json({65, 64}));
}

TEST_CASE(
    "full attention may be asked of blocks that the vision part has not, as by default of a shallow one") {
  const ScratchFolder scratch;
  const auto attends_in_full = [&](const std::function<void(json&)>& edit) {
    const ModelConfig config = ModelConfig::load(edited(scratch, edit));
    std::vector<bool> full;
    for (std::int64_t block = 0; block < config.vision.depth; ++block)
      full.push_back(is_full_attention_block(config.vision, block));
    return full;
  };
  const auto indexes = [](const json& list) {
    return [list](json& root) { root["vision_config"]["fullatt_block_indexes"] = list; };
  };
  CHECK(attends_in_full(indexes({-1, 1, 30})) == std::vector<bool>{false, true});
  CHECK(attends_in_full(indexes(json::array())) == std::vector<bool>{false, false});
  // The class's own [7, 15, 23, 31], of which the two blocks are none.
  CHECK(attends_in_full([](json& root) { root["vision_config"].erase("fullatt_block_indexes"); }) ==
        std::vector<bool>{false, false});
  const ModelConfig config = ModelConfig::load(edited(scratch, indexes({1, 30})));
  CHECK(json::parse(saved_text(scratch, config)).at("vision_config").at("fullatt_block_indexes") ==
        json({1, 30}));
}

TEST_CASE("answers end where generation_config.json says, else at the end and padding ids of config.json") {
  const ScratchFolder scratch;
  edited(scratch, [](json&) {});
  using Ids = std::vector<std::int32_t>;
  const auto stop_ids = [&](const std::string& generation_config) {
    write_file_atomically(scratch / "generation_config.json", generation_config);
    return ModelConfig::load_folder(scratch.path()).stop_ids();
  };
  CHECK(ModelConfig::load_folder(scratch.path()).stop_ids() == Ids{65, 64});
  CHECK(stop_ids(R"({"eos_token_id": 3})") == Ids{3});
  CHECK(stop_ids(R"({"eos_token_id": [66, 3], "temperature": 0.1})") == Ids{66, 3});
  CHECK(stop_ids(R"({"eos_token_id": [64, 5000]})") == Ids{64});  // No token of this model.
  for (const char* none : {"{}", R"({"eos_token_id": null})", R"({"eos_token_id": []})"})
    CHECK(stop_ids(none) == Ids{65, 64});
  for (const char* broken : {"[]", "{", R"({"eos_token_id": "65"})", R"({"eos_token_id": [-1]})"})
    testing::expect_error(ErrorCode::kData, [&] { stop_ids(broken); }, {"generation_config.json"});
}

TEST_CASE("a generation_config.json that ferro writes lets others end answers where ferro does") {
  const ScratchFolder scratch;
  const auto written = [&](std::int32_t end, std::int32_t padding,
                           const std::vector<std::int32_t>& generation) {
    ModelConfig config = testing::small_config(true);
    config.eos_token_id = end;
    config.pad_token_id = padding;
    config.generation_eos_token_ids = generation;
    config.save_generation_config(scratch / "generation_config.json");
    return json::parse(read_file(scratch / "generation_config.json")).value("eos_token_id", json());
  };
  CHECK(written(65, 64, {}) == json({65, 64}));
  CHECK(written(65, 65, {}) == json(65));
  CHECK(written(65, 64, {3}) == json(3));
  CHECK(written(65, 64, {3, 4}) == json({3, 4}));
  CHECK(written(-1, -1, {}) == json());
}

TEST_CASE("the head is tied where either the top or text_config says so") {
  const ScratchFolder scratch;
  const auto tied = [&](const json& top, const json& text) {
    return ModelConfig::load(edited(scratch,
                                    [&](json& root) {
                                      root.erase("tie_word_embeddings");
                                      root["text_config"].erase("tie_word_embeddings");
                                      if (!top.is_null()) root["tie_word_embeddings"] = top;
                                      if (!text.is_null()) root["text_config"]["tie_word_embeddings"] = text;
                                    }))
        .tie_word_embeddings;
  };
  // What Qwen2_5_VLConfig of transformers 5.17 makes of each; null here: the key is absent.
  const json absent;
  CHECK(tied(true, true));
  CHECK(tied(true, false));
  CHECK(tied(true, absent));
  CHECK(tied(false, true));
  CHECK_FALSE(tied(false, false));
  CHECK_FALSE(tied(false, absent));
  CHECK(tied(absent, true));
  CHECK_FALSE(tied(absent, false));
  CHECK_FALSE(tied(absent, absent));
}

TEST_CASE("of several rotary settings those count that transformers takes") {
  const ScratchFolder scratch;
  struct Rope {
    double theta;
    std::vector<std::int64_t> section;
    bool operator==(const Rope&) const = default;
  };
  const auto text_rope = [&](const std::string& keys) {
    const ModelConfig config = ModelConfig::load(edited(scratch, [&](json& root) {
      for (const char* key : {"rope_scaling", "rope_parameters", "rope_theta"})
        root["text_config"].erase(key);
      root["text_config"].update(json::parse(keys));
    }));
    return Rope{config.text.rope_theta, config.text.mrope_section};
  };
  // text_config.rope_parameters of transformers 5.17's Qwen2_5_VLConfig for the same keys.
  const std::string parameters =
      R"("rope_parameters": {"mrope_section": [3, 1, 1], "rope_theta": 3e4, "rope_type": "default"})";
  CHECK(text_rope("{" + parameters + R"(, "rope_theta": 5e4,
      "rope_scaling": {"mrope_section": [1, 2, 2], "type": "mrope", "rope_theta": 7e4}})") ==
        Rope{7e4, {1, 2, 2}});
  CHECK(text_rope("{" + parameters + R"(, "rope_theta": 5e4,
      "rope_scaling": {"mrope_section": [1, 2, 2], "type": "mrope"}})") == Rope{5e4, {1, 2, 2}});
  CHECK(text_rope("{" + parameters + R"(, "rope_scaling": {"mrope_section": [1, 2, 2]}})") ==
        Rope{1e6, {1, 2, 2}});
  CHECK(text_rope("{" + parameters + R"(, "rope_theta": 5e4, "rope_scaling": {}})") == Rope{3e4, {3, 1, 1}});
  CHECK(text_rope("{" + parameters + R"(, "rope_theta": 5e4, "rope_scaling": null})") ==
        Rope{3e4, {3, 1, 1}});
  CHECK(text_rope(R"({"rope_parameters": {"mrope_section": [3, 1, 1]}, "rope_theta": 5e4})") ==
        Rope{5e4, {3, 1, 1}});

  const auto vision_theta = [&](const std::string& keys) {
    return ModelConfig::load(edited(scratch,
                                    [&](json& root) {
                                      root["vision_config"].erase("rope_parameters");
                                      root["vision_config"].update(json::parse(keys));
                                    }))
        .vision.rope_theta;
  };
  CHECK(vision_theta(R"({"rope_scaling": {"rope_theta": 7e4}, "rope_parameters": {"rope_theta": 3e4}})") ==
        7e4);
  CHECK(vision_theta(R"({"rope_theta": 6e4, "rope_scaling": {"type": "default"}})") == 6e4);
  CHECK(vision_theta("{}") == 1e4);
}

TEST_CASE("absent keys of the text and vision parts have the defaults of transformers' classes") {
  const ScratchFolder scratch;
  const auto path = scratch / "config.json";
  // transformers 5.17: Qwen2_5_VLConfig(text_config={}, vision_config={"hidden_size": 1280,
  // "out_hidden_size": 8192}); the sections are the default of its rotary module.
  write_file_atomically(path, R"({"model_type": "qwen2_5_vl", "hidden_size": 2048, "text_config": {},
      "vision_config": {"hidden_size": 1280, "out_hidden_size": 8192}})");
  ModelConfig config = ModelConfig::load(path);
  CHECK(config.text.vocab_size == 152064);
  CHECK(config.text.hidden_size == 8192);
  CHECK(config.text.intermediate_size == 29568);
  CHECK(config.text.num_hidden_layers == 80);
  CHECK(config.text.num_attention_heads == 64);
  CHECK(config.text.num_key_value_heads == 8);
  CHECK(config.text.max_position_embeddings == 32768);
  CHECK(config.text.rms_norm_eps == 1e-5);
  CHECK(config.text.rope_theta == 1e6);
  CHECK(config.text.mrope_section == std::vector<std::int64_t>{16, 24, 24});
  CHECK_FALSE(config.tie_word_embeddings);

  // Qwen2_5_VLConfig(hidden_size=3584, num_attention_heads=28, num_key_value_heads=None): flat, no vision
  // part.
  write_file_atomically(path, R"({"model_type": "qwen2_5_vl", "hidden_size": 3584, "num_attention_heads": 28,
      "num_key_value_heads": null})");
  config = ModelConfig::load(path);
  CHECK(config.text.num_key_value_heads == 28);
  CHECK(config.text.num_hidden_layers == 80);
  CHECK(config.vision.depth == 32);
  CHECK(config.vision.hidden_size == 3584);
  CHECK(config.vision.num_heads == 16);
  CHECK(config.vision.intermediate_size == 3420);
  CHECK(config.vision.out_hidden_size == 3584);
}

TEST_CASE("a written config.json also has the keys that transformers 4 reads") {
  const ScratchFolder scratch;
  for (const bool tied : {true, false}) {
    ModelConfig config = testing::small_config(tied);
    config.text.rope_theta = 5e4;
    config.save(scratch / "config.json");
    const json text = json::parse(read_file(scratch / "config.json")).at("text_config");
    // transformers 4.57 without the first: TypeError; without the last: a head of its own, at random.
    CHECK(text.at("rope_scaling") ==
          json::parse(R"({"mrope_section": [1, 2, 2], "rope_type": "default", "type": "default"})"));
    CHECK(text.at("rope_theta") == json(5e4));
    CHECK(text.at("tie_word_embeddings") == json(tied));
    CHECK(text.at("rope_parameters").at("rope_theta") == json(5e4));
  }
}

TEST_CASE("each broken config.json is refused, naming file, key and value") {
  const ScratchFolder scratch;
  const auto refused = [&](const std::function<void(json&)>& edit, const std::vector<std::string>& parts) {
    const auto path = edited(scratch, edit);
    std::vector<std::string> all = parts;
    all.push_back(path.string());
    testing::expect_error(
        ErrorCode::kData, [&] { ModelConfig::load(path); }, all);
  };
  refused([](json& root) { root["model_type"] = "llama"; }, {"model_type", "llama"});
  refused([](json& root) { root = json::array(); }, {"not an object"});
  // The class's own vision part, whose tokens are 3584 wide.
  refused([](json& root) { root.erase("vision_config"); }, {"out_hidden_size", "3584", "40"});
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                          "num_attention_heads", "max_position_embeddings"})
    refused([&](json& root) { root["text_config"][key] = nullptr; },
            {std::string("text_config.") + key, "null"});
  refused([](json& root) { root["vision_config"]["depth"] = nullptr; }, {"vision_config.depth", "null"});
  // The class's own 8 do not divide 4 heads.
  refused([](json& root) { root["text_config"].erase("num_key_value_heads"); },
          {"num_key_value_heads", "8", "4"});
  // The class's own sections fill half a head of 128, not of 10.
  refused([](json& root) { root["text_config"]["rope_scaling"].erase("mrope_section"); },
          {"text_config.rope_scaling.mrope_section", "missing", "16, 24, 24", "10"});
  refused(
      [](json& root) {
        for (const char* key : {"rope_scaling", "rope_parameters"}) root["text_config"].erase(key);
      },
      {"text_config.mrope_section", "missing", "16, 24, 24", "10"});
  refused([](json& root) { root["text_config"]["vocab_size"] = "67"; },
          {"text_config.vocab_size", "not an integer"});
  refused([](json& root) { root["text_config"]["num_hidden_layers"] = 0; }, {"num_hidden_layers", "0"});
  refused([](json& root) { root["text_config"]["num_hidden_layers"] = -3; }, {"num_hidden_layers", "-3"});
  refused([](json& root) { root["text_config"]["hidden_size"] = 18446744073709551615u; },
          {"hidden_size", "too large"});
  refused([](json& root) { root["text_config"]["num_hidden_layers"] = 1 << 24; },
          {"num_hidden_layers", "16777216"});
  refused([](json& root) { root["vision_config"]["spatial_merge_size"] = 1 << 20; },
          {"spatial_merge_size", "1048576"});
  refused([](json& root) { root["text_config"]["num_attention_heads"] = 3; },
          {"num_attention_heads", "3", "40"});
  refused([](json& root) { root["text_config"]["num_key_value_heads"] = 3; },
          {"num_key_value_heads", "3", "4"});
  refused(
      [](json& root) {
        root["text_config"]["rope_scaling"]["mrope_section"] = {1, 2, 3};
      },
      {"mrope_section", "6", "5"});
  refused([](json& root) { root["text_config"]["rope_scaling"]["mrope_section"] = {5}; },
          {"mrope_section", "1 sections"});
  refused(
      [](json& root) {
        root["text_config"]["rope_scaling"]["mrope_section"] = {-1, 3, 3};
      },
      {"mrope_section", "-1"});
  refused([](json& root) { root["text_config"]["rope_scaling"]["rope_type"] = "yarn"; },
          {"rope_type", "yarn"});
  refused([](json& root) { root["text_config"]["use_sliding_window"] = true; }, {"use_sliding_window"});
  refused([](json& root) { root["text_config"]["rms_norm_eps"] = -1e-6; }, {"rms_norm_eps"});
  refused([](json& root) { root["text_config"]["hidden_act"] = "gelu"; }, {"text_config.hidden_act"});
  refused([](json& root) { root["vision_config"]["out_hidden_size"] = 41; }, {"out_hidden_size", "41", "40"});
  refused([](json& root) { root["vision_config"]["num_heads"] = 5; }, {"vision_config.num_heads", "5"});
  refused([](json& root) { root["vision_config"]["fullatt_block_indexes"] = {"2"}; },
          {"fullatt_block_indexes", "not an integer"});
  refused([](json& root) { root["vision_config"]["window_size"] = 7; }, {"window_size", "7"});
  refused([](json& root) { root["image_token_id"] = 67; }, {"image_token_id", "67"});
  refused([](json& root) { root["image_token_id"] = -1; }, {"image_token_id", "-1"});
}

TEST_CASE("config.json that is missing, cut or not JSON is told apart") {
  const ScratchFolder scratch;
  testing::expect_error(ErrorCode::kIo, [&] { ModelConfig::load(scratch / "config.json"); }, {"config.json"});
  const auto path = edited(scratch, [](json&) {});
  const std::string text = read_file(path);
  write_file_atomically(path, text.substr(0, text.size() / 2));
  testing::expect_error(ErrorCode::kData, [&] { ModelConfig::load(path); }, {"config.json", "not JSON"});
}

TEST_CASE("the tiny preset puts the special tokens last, in the tokenizer's order") {
  const ModelConfig config = preset_config("tiny", 1000);
  const auto& special = qwen_special_tokens();
  const auto token = [&](std::int32_t id) {
    return special.at(static_cast<std::size_t>(id) - (1000 - special.size()));
  };
  CHECK(token(config.image_token_id) == "<|image_pad|>");
  CHECK(token(config.video_token_id) == "<|video_pad|>");
  CHECK(token(config.eos_token_id) == "<|im_end|>");
  CHECK(token(config.pad_token_id) == "<|endoftext|>");
  const ScratchFolder scratch;
  config.save(scratch / "config.json");
  CHECK(saved_text(scratch, ModelConfig::load(scratch / "config.json")) ==
        read_file(scratch / "config.json"));
  testing::expect_error(ErrorCode::kUsage, [] { preset_config("huge", 1000); }, {"huge", "tiny"});
  testing::expect_error(ErrorCode::kUsage, [] { preset_config("tiny", 3); }, {"3"});
}

}  // namespace
}  // namespace ferro
