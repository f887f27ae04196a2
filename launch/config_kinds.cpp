#include "launch/config_kinds.h"

#include <cstddef>

#include "core/config.h"
#include "core/error.h"
#include "trainer/grpo_config.h"
#include "trainer/sft_config.h"

namespace ferro {
namespace {

/// How many of the file's top-level keys `Config` has.
template <class Config>
std::size_t known_keys(const YamlNode& root) {
  const YamlNode defaults = parse_yaml(dump_yaml(Config{}), "defaults");
  std::size_t known = 0;
  for (const std::string& key : root.keys) known += defaults.find(key) != nullptr ? 1 : 0;
  return known;
}

}  // namespace

ConfigKind config_kind_of(const std::string& name) {
  if (name == "sft") return ConfigKind::kSft;
  if (name == "grpo") return ConfigKind::kGrpo;
  fail(ErrorCode::kUsage, "`{}` is no kind of configuration: sft or grpo", name);
}

const char* name_of(ConfigKind kind) {
  return kind == ConfigKind::kSft ? "sft" : "grpo";
}

ConfigKind detect_config_kind(const std::filesystem::path& path) {
  const YamlNode root = load_yaml_with_overrides(path, {});
  return known_keys<GrpoConfig>(root) > known_keys<SftConfig>(root) ? ConfigKind::kGrpo : ConfigKind::kSft;
}

AskedAsTrained asked_as_trained(const std::filesystem::path& config) {
  if (detect_config_kind(config) == ConfigKind::kGrpo) {
    const auto grpo = load_config<GrpoConfig>(config, {});
    return {grpo.data, grpo.max_completion_length};
  }
  const auto sft = load_config<SftConfig>(config, {});
  return {sft.data, sft.max_new_tokens};
}

}  // namespace ferro
