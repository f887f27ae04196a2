#include "trainer/group_packing.h"

#include <utility>

#include "core/error.h"

namespace ferro {
namespace {

class GroupPacker {
 public:
  explicit GroupPacker(std::int64_t max_tokens) : max_tokens_(max_tokens) {}

  void add(const AnsweredPrompt& group, std::size_t index) {
    std::int64_t all = prompt_tokens(group);
    for (const auto& answer : group.answers) all += static_cast<std::int64_t>(answer.size());
    if (packer_.num_tokens() > 0 && packer_.num_tokens() + all > max_tokens_) flush();
    for (std::size_t at = 0; at < group.answers.size();) at = add_part(group, index, at);
  }
  std::vector<MicroBatch> finish() {
    if (packer_.num_tokens() > 0) flush();
    return std::move(done_);
  }

 private:
  static std::int64_t prompt_tokens(const AnsweredPrompt& group) {
    return static_cast<std::int64_t>(group.prompt->ids.size());
  }

  // Adds answers from `begin` while they fit, at least one; returns the first that is left.
  std::size_t add_part(const AnsweredPrompt& group, std::size_t index, std::size_t begin) {
    if (begin > 0) flush();
    std::int64_t tokens = packer_.num_tokens() + prompt_tokens(group);
    std::size_t end = begin;
    for (; end < group.answers.size(); ++end) {
      tokens += static_cast<std::int64_t>(group.answers[end].size());
      if (end > begin && tokens > max_tokens_) break;
      answers_.push_back({index, end});
    }
    packer_.add_group(*group.prompt, std::span(group.answers).subspan(begin, end - begin));
    return end;
  }

  void flush() {
    MicroBatch micro{packer_.finish(), std::exchange(answers_, {}), {0}};
    FERRO_CHECK(micro.answers.size() == static_cast<std::size_t>(micro.batch.num_sequences),
                "{} answers, {} sequences", micro.answers.size(), micro.batch.num_sequences);
    std::size_t at = 0;
    for (std::int32_t sequence = 0; sequence < micro.batch.num_sequences; ++sequence) {
      while (at < micro.batch.targets.size() && micro.batch.targets[at].sequence == sequence) ++at;
      micro.offsets.push_back(static_cast<std::int64_t>(at));
    }
    done_.push_back(std::move(micro));
  }

  std::int64_t max_tokens_;
  BatchPacker packer_;
  std::vector<AnswerPlace> answers_;
  std::vector<MicroBatch> done_;
};

}  // namespace

std::vector<MicroBatch> pack_groups(std::span<const AnsweredPrompt> groups, std::int64_t max_tokens) {
  GroupPacker packer(max_tokens);
  for (std::size_t i = 0; i < groups.size(); ++i)
    if (!groups[i].answers.empty()) packer.add(groups[i], i);
  return packer.finish();
}

}  // namespace ferro
