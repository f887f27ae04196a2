#include "reward/reward_wire.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include <fmt/format.h>

namespace ferro {
namespace {

using google::protobuf::internal::WireFormatLite;

/// Occurrences of the field `completions` in an encoded request; empty: not protobuf. An empty completion
/// takes two bytes in a message and forty in memory, so they are counted first.
std::optional<std::size_t> count_completions(const std::string& bytes) {
  if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) return std::nullopt;
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  std::size_t count = 0;
  while (const std::uint32_t tag = in.ReadTag()) {
    if (WireFormatLite::GetTagFieldNumber(tag) == v1::ScoreGroupRequest::kCompletionsFieldNumber) ++count;
    if (!WireFormatLite::SkipField(&in, tag)) return std::nullopt;
  }
  if (!in.ConsumedEntireMessage()) return std::nullopt;
  return count;
}

}  // namespace

v1::ScoreGroupRequest to_wire(const ScoreRequest& request) {
  v1::ScoreGroupRequest message;
  message.set_key(request.key);
  message.set_question(request.question);
  message.set_solution(request.solution);
  for (const std::string& completion : request.completions) message.add_completions(completion);
  return message;
}

std::optional<ScoreRequest> decode_score_request(const std::string& bytes, std::size_t max_completions,
                                                 std::string& why) {
  const std::optional<std::size_t> count = count_completions(bytes);
  if (count && *count > max_completions) {
    why = fmt::format("{} completions, at most {} in one group", *count, max_completions);
    return std::nullopt;
  }
  v1::ScoreGroupRequest message;
  if (!count || !message.ParseFromString(bytes)) {
    why = fmt::format("{} bytes that are no ScoreGroupRequest", bytes.size());
    return std::nullopt;
  }
  ScoreRequest request;
  request.key = std::move(*message.mutable_key());
  request.question = std::move(*message.mutable_question());
  request.solution = std::move(*message.mutable_solution());
  for (std::string& completion : *message.mutable_completions())
    request.completions.push_back(std::move(completion));
  return request;
}

std::string encode_verdicts(const std::string& key, const std::vector<std::string>& functions,
                            const GroupVerdicts& verdicts) {
  v1::ScoreGroupResponse message;
  message.set_key(key);
  for (std::size_t f = 0; f < functions.size(); ++f) {
    v1::FunctionVerdicts& of_function = *message.add_functions();
    of_function.set_function(functions[f]);
    for (const Verdict& verdict : verdicts.verdicts[f]) {
      v1::Verdict& out = *of_function.add_verdicts();
      if (verdict.value) out.set_value(*verdict.value);
      out.set_reason(verdict.reason);
    }
  }
  return message.SerializeAsString();
}

std::optional<GroupVerdicts> verdicts_of(const v1::ScoreGroupResponse& response, const ScoreRequest& request,
                                         const std::vector<std::string>& functions, std::string& why) {
  if (response.key() != request.key) {
    why = "verdicts of another group";
    return std::nullopt;
  }
  if (static_cast<std::size_t>(response.functions_size()) != functions.size()) {
    why = fmt::format("verdicts of {} functions instead of {}", response.functions_size(), functions.size());
    return std::nullopt;
  }
  GroupVerdicts group;
  for (const std::string& name : functions) {
    const auto of_function = std::find_if(response.functions().begin(), response.functions().end(),
                                          [&](const auto& f) { return f.function() == name; });
    if (of_function == response.functions().end()) {
      why = fmt::format("no verdicts of `{}`", name);
      return std::nullopt;
    }
    if (static_cast<std::size_t>(of_function->verdicts_size()) != request.completions.size()) {
      why = fmt::format("{} verdicts of `{}` on {} answers", of_function->verdicts_size(), name,
                        request.completions.size());
      return std::nullopt;
    }
    std::vector<Verdict>& verdicts = group.verdicts.emplace_back();
    for (const v1::Verdict& verdict : of_function->verdicts())
      verdicts.push_back(
          {verdict.has_value() ? std::optional<double>(verdict.value()) : std::nullopt, verdict.reason()});
  }
  return group;
}

v1::ReadMetricsResponse to_wire(const RewardTotals& totals) {
  v1::ReadMetricsResponse message;
  message.set_requests(totals.requests);
  message.set_judged(totals.judged);
  message.set_completions(totals.completions);
  for (const auto& [name, count] : totals.reasons) {
    v1::ReasonCount& reason = *message.add_reasons();
    reason.set_function(name.first);
    reason.set_reason(name.second);
    reason.set_count(count);
  }
  message.set_refused_full(totals.refused_full);
  message.set_refused_malformed(totals.refused_malformed);
  message.set_refused_token(totals.refused_token);
  message.set_refused_handshakes(totals.refused_handshakes);
  message.set_expired(totals.expired);
  message.set_failed(totals.failed);
  message.set_seconds_total(totals.seconds_total);
  message.set_seconds_max(totals.seconds_max);
  return message;
}

}  // namespace ferro
