#include "launch/config_docs_page.h"

#include "core/config.h"
#include "reward/reward_service_config.h"
#include "trainer/grpo_config.h"
#include "trainer/sft_config.h"

namespace ferro {

std::string config_docs_page() {
  std::string page =
      "# Configuration\n\n"
      "Made by `ferro config docs` from the structs that the code reads (`trainer/*_config.h`); a test "
      "compares this page with them.\n"
      "A file holds any of these keys; a key that is absent has its default. An unknown key, a wrong type or "
      "a value out of range is an\n"
      "error with file, line and the nearest known key (exit code 78). `--set section.key=value` sets a key "
      "over the file.\n\n";
  page += config_markdown<SftConfig>("`ferro train sft`", "Supervised fine-tuning: the cold start.");
  page += "\n";
  page += config_markdown<GrpoConfig>("`ferro train grpo`",
                                      "Group relative policy optimisation against verifiable rewards.");
  page += "\n";
  page += config_markdown<RewardServiceConfig>("`ferro-reward`", "The service that judges answers.");
  return page;
}

}  // namespace ferro
