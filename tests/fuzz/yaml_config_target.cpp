#include <string>
#include <vector>

#include "core/config.h"
#include "tests/fuzz/memory_file.h"
#include "trainer/grpo_config.h"
#include "trainer/sft_config.h"

namespace {

/// Lines that begin with this are overrides, the others are the file.
constexpr std::string_view kOverride = "--set ";

template <class Config>
void read_and_dump(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  ferro::testing::reads_or_refuses([&] {
    const auto config = ferro::load_config<Config>(path, overrides);
    // What was read can be written and read again.
    const ferro::YamlNode again = ferro::parse_yaml(ferro::dump_yaml(config), "dump");
    Config copy;
    ferro::YamlReader(again, "").read(copy);
    ferro::testing::must_hold(ferro::dump_yaml(copy) == ferro::dump_yaml(config),
                              "a dump that reads otherwise");
  });
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static ferro::testing::MemoryFile file;
  std::string yaml;
  std::vector<std::string> overrides;
  std::string_view rest = ferro::testing::text_of(data, size);
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size() - 1);
    const std::string_view line = rest.substr(0, end + 1);
    if (line.starts_with(kOverride)) {
      const std::string_view text = line.substr(kOverride.size());
      overrides.emplace_back(text.substr(0, text.find('\n')));
    } else {
      yaml += line;
    }
    rest.remove_prefix(end + 1);
  }
  const std::filesystem::path& path = file.hold(yaml);
  read_and_dump<ferro::SftConfig>(path, overrides);
  read_and_dump<ferro::GrpoConfig>(path, overrides);
  return 0;
}
