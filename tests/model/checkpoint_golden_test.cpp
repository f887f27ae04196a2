#include "model/tensor_names.h"
#include "tests/core/scratch_folder.h"
#include "tests/model/golden_case.h"

namespace ferro {
namespace {

using nlohmann::json;
using testing::GoldenSet;

at::ScalarType scalar_type(const std::string& name) {
  if (name == "bfloat16") return at::kBFloat16;
  return name == "float16" ? at::kHalf : at::kFloat;
}

constexpr const char* kHead = "lm_head.weight";

ArenaTable table_of(const std::filesystem::path& config_json) {
  return ArenaTable::make(ModelConfig::load(config_json), false);
}

/// A tied model's head is its embedding, so that tied and untied checkpoints of one model compare.
at::Tensor weight_of(const Model& model, const std::string& name) {
  const bool head = name == kHead && model.config.tie_word_embeddings;
  return model.arena.export_parameter(head ? "model.embed_tokens.weight" : name);
}

TEST_CASE("every checkpoint loads to the same weights, whatever its layout, names and dtype") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/model/checkpoints");
  const GoldenSet set(*golden);
  const json& checkpoints = set.manifest().at("model").at("checkpoints");
  const Model reference = set.model(false);
  for (const json& entry : checkpoints) {
    const std::string path = entry.at("path").get<std::string>();
    INFO(path);
    for (const bool panels : {true, false}) {
      const Model model = load_model(*golden / path, false, panels);
      // Tied: the head is not in the files.
      CHECK(model.arena.table.parameters.size() == entry.at("tensors").get<std::size_t>());
      CHECK(model.config.tie_word_embeddings == entry.at("tied_embeddings").get<bool>());
      CHECK(model.config.text.vocab_size == entry.at("vocab_size").get<std::int64_t>());
      std::int64_t different = 0;
      for (const ParameterInfo& info : model.arena.table.parameters)
        different += !weight_of(model, info.name).equal(weight_of(reference, info.name));
      testing::report_equality(path + (panels ? " panels" : " plain") + ", tensors",
                               model.arena.table.parameters.size(), static_cast<std::size_t>(different));
      CHECK(different == 0);
    }
    const json& special = set.manifest().at("model").at("special_ids");
    const ModelConfig config = ModelConfig::load(*golden / entry.at("config").get<std::string>());
    const std::map<std::string, std::int32_t> ours{{"image", config.image_token_id},
                                                   {"video", config.video_token_id},
                                                   {"vision_start", config.vision_start_token_id},
                                                   {"vision_end", config.vision_end_token_id},
                                                   {"eos", config.eos_token_id},
                                                   {"pad", config.pad_token_id}};
    std::size_t wrong = 0;
    for (const auto& [name, id] : special.items()) {
      INFO("special id " << name);
      const bool same = ours.contains(name) && ours.at(name) == id.get<std::int32_t>();
      CHECK(same);
      wrong += same ? 0 : 1;
    }
    testing::report_equality("model special ids, " + path, special.size(), wrong);
  }
}

TEST_CASE("both namings of every tensor are known") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/model/naming");
  const GoldenSet set(*golden);
  const json naming = set.json(set.manifest().at("model").at("naming").get<std::string>());
  const json& table = naming.at("in_memory");
  CHECK(table.size() == set.manifest().at("model").at("parameters").get<std::size_t>());
  // The head is in the list of names where the model it was made from has one of its own, whatever the
  // checkpoints have.
  std::map<std::string, std::vector<std::int64_t>> shapes{{kHead, {}}};
  for (const json& entry : set.manifest().at("model").at("checkpoints"))
    for (const ParameterInfo& info : table_of(*golden / entry.at("config").get<std::string>()).parameters)
      shapes[info.name] = info.shape;
  shapes[kHead] = shapes.at("model.embed_tokens.weight");
  std::size_t different = 0;
  for (const auto& [hub, memory] : table.items()) {
    INFO(hub);
    const bool known = hub_tensor_name(memory.get<std::string>()) == hub && hub_tensor_name(hub) == hub &&
                       in_memory_tensor_name(hub) == memory.get<std::string>() && shapes.contains(hub);
    CHECK(known);
    different += known ? 0 : 1;
  }
  testing::report_equality("model names of tensors in both namings", table.size(), different);
  const std::map<std::string, std::vector<std::int64_t>> stored = naming.at("shapes");
  different = 0;
  for (const auto& [name, shape] : shapes) {
    INFO(name);
    if (name == kHead && !stored.contains(name)) continue;
    const bool same = stored.contains(name) && stored.at(name) == shape;
    CHECK(same);
    different += same ? 0 : 1;
  }
  testing::report_equality("model shapes of tensors", stored.size(), different);
}

struct ConfigCounts {
  std::size_t compared = 0, different = 0;
};

/// What ferro writes for transformers 4, which reads these where transformers 5 reads other keys.
bool is_for_transformers_4(const std::string& path) {
  return path == "text_config.rope_scaling" || path == "text_config.rope_theta" ||
         path == "text_config.tie_word_embeddings";
}

/// Same keys, same values. A pad id that is null there is the begin id here; the window layers mean nothing
/// without windows.
void compare_config(const json& ours, const json& reference, const std::string& path, ConfigCounts& counts) {
  const auto expect = [&](bool same) {
    CHECK(same);
    ++counts.compared;
    counts.different += same ? 0 : 1;
  };
  for (const auto& [key, value] : ours.items()) {
    INFO(path << key << ": " << value);
    if (!reference.contains(key)) {
      if (is_for_transformers_4(path + key)) continue;
      UNSCOPED_INFO("transformers does not write this key");
      expect(false);
    } else if (value.is_object()) {
      compare_config(value, reference.at(key), path + key + ".", counts);
    } else if (key != "pad_token_id" && key != "max_window_layers") {
      INFO("transformers: " << reference.at(key));
      expect(value == reference.at(key));
    }
  }
  for (const auto& [key, value] : reference.items()) {
    INFO(path << key);
    expect(ours.contains(key) || key == "transformers_version");
  }
}

TEST_CASE("a saved config.json has the keys and values that transformers writes") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/model/checkpoints");
  const GoldenSet set(*golden);
  const testing::ScratchFolder scratch;
  for (const json& entry : set.manifest().at("model").at("checkpoints")) {
    if (entry.at("config_style") != "nested") continue;
    const std::filesystem::path path = *golden / entry.at("config").get<std::string>();
    ModelConfig::load(path).save(scratch / "config.json", entry.at("dtype").get<std::string>());
    ConfigCounts counts;
    compare_config(testing::read_json(scratch / "config.json"), testing::read_json(path), "", counts);
    testing::report_equality("model saved config.json, keys of " + entry.at("path").get<std::string>(),
                             counts.compared, counts.different);
  }
}

/// eos_token_id of a generation_config.json: one id, or a list.
std::vector<std::int32_t> end_ids(const json& generation_config) {
  const json ids = generation_config.value("eos_token_id", json(nullptr));
  if (ids.is_null()) return {};
  return ids.is_array() ? ids.get<std::vector<std::int32_t>>() : std::vector{ids.get<std::int32_t>()};
}

TEST_CASE("a saved generation_config.json ends answers where the checkpoint's does") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/model/checkpoints");
  const GoldenSet set(*golden);
  const testing::ScratchFolder scratch;
  for (const json& entry : set.manifest().at("model").at("checkpoints")) {
    const std::string path = entry.at("path").get<std::string>();
    INFO(path);
    const ModelConfig config = ModelConfig::load_folder(*golden / path);
    config.save_generation_config(scratch / "generation_config.json");
    const json ours = testing::read_json(scratch / "generation_config.json");
    CHECK(end_ids(ours) == config.stop_ids());
    if (entry.at("generation_config").is_null()) continue;
    const json theirs = set.json(entry.at("generation_config").get<std::string>());
    const std::vector<std::int32_t> expected = end_ids(theirs);
    const bool same = expected.empty() || config.stop_ids() == expected;
    CHECK(same);
    testing::report_equality("model ids that end an answer, " + path, expected.size(),
                             same ? 0 : expected.size());
    for (const char* key : {"bos_token_id", "pad_token_id"}) {
      INFO(key);
      if (theirs.contains(key) && !theirs.at(key).is_null()) CHECK(ours.at(key) == theirs.at(key));
    }
  }
}

TEST_CASE("saving in a checkpoint's own dtype and loading again gives the same bits") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/model/checkpoints");
  const GoldenSet set(*golden);
  const testing::ScratchFolder scratch;
  for (const json& entry : set.manifest().at("model").at("checkpoints")) {
    const Model model = load_model(*golden / entry.at("path").get<std::string>(), false);
    save_model(model, scratch / "model", {}, scalar_type(entry.at("dtype").get<std::string>()));
    const at::Tensor loaded = load_model(scratch / "model", false).arena.weights;
    const auto different = (loaded != model.arena.weights).sum().item<std::int64_t>();
    CHECK(different == 0);
    testing::report_equality("model saved and loaded again, " + entry.at("path").get<std::string>(),
                             static_cast<std::size_t>(loaded.numel()), static_cast<std::size_t>(different));
  }
}

}  // namespace
}  // namespace ferro
