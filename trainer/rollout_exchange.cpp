#include "trainer/rollout_exchange.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "trainer/rank_world.h"

namespace ferro {
namespace {

using nlohmann::json;

// CBOR: exact numbers, NaN among them, and texts of any bytes.
std::string bytes_of(const json& value) {
  std::string bytes;
  json::to_cbor(value, bytes);
  return bytes;
}

json json_of(const JudgedAnswers& group) {
  json completions = json::array(), verdicts = json::array();
  for (const Completion& c : group.completions)
    completions.push_back({c.policy_version, c.token_ids, c.logprobs, c.text, static_cast<int>(c.finish)});
  for (const std::vector<Verdict>& function : group.verdicts.verdicts) {
    json list = json::array();
    for (const Verdict& verdict : function)
      list.push_back({verdict.value ? json(*verdict.value) : json(nullptr), verdict.reason});
    verdicts.push_back(std::move(list));
  }
  return {std::move(completions), std::move(verdicts)};
}

JudgedAnswers group_of(const json& value) {
  JudgedAnswers group;
  for (const json& c : value.at(0))
    group.completions.push_back({.policy_version = c.at(0).get<std::int64_t>(),
                                 .token_ids = c.at(1).get<std::vector<std::int32_t>>(),
                                 .logprobs = c.at(2).get<std::vector<float>>(),
                                 .text = c.at(3).get<std::string>(),
                                 .finish = static_cast<FinishReason>(c.at(4).get<int>())});
  for (const json& function : value.at(1)) {
    std::vector<Verdict>& list = group.verdicts.verdicts.emplace_back();
    for (const json& verdict : function)
      list.push_back({verdict.at(0).is_null() ? std::nullopt : std::optional(verdict.at(0).get<double>()),
                      verdict.at(1).get<std::string>()});
  }
  return group;
}

}  // namespace

std::vector<JudgedAnswers> share_answers(std::vector<JudgedAnswers> own, Communicator& world) {
  if (world.world_size() == 1) return own;
  json groups = json::array();
  for (const JudgedAnswers& group : own) groups.push_back(json_of(group));
  std::vector<JudgedAnswers> all;
  for (const std::string& part : gather_texts(bytes_of(groups), world))
    for (const json& group : json::from_cbor(part)) all.push_back(group_of(group));
  return all;
}

std::vector<std::vector<std::vector<float>>> share_logps(std::vector<std::vector<std::vector<float>>> own,
                                                         Communicator& world) {
  if (world.world_size() == 1) return own;
  std::vector<std::vector<std::vector<float>>> all;
  for (const std::string& part : gather_texts(bytes_of(json(own)), world))
    for (const json& group : json::from_cbor(part))
      all.push_back(group.get<std::vector<std::vector<float>>>());
  return all;
}

}  // namespace ferro
