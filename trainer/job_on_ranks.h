#pragma once

#include "core/config_values.h"
#include "core/error.h"
#include "model/dist/communicator.h"
#include "trainer/checkpoint_session.h"
#include "trainer/policy_setup.h"
#include "trainer/rank_world.h"
#include "trainer/train.h"

namespace ferro {

/// A whole job as this rank's part of it: agrees with the others on where it begins, then runs
/// `Trainer(config, environment, start, world)`. What ends one rank ends all.
template <class Trainer, class Config>
void run_job_on_ranks(const Config& config, const TrainEnvironment& environment) {
  FERRO_CHECK(environment.clock != nullptr && environment.make_loader,
              "a job needs a clock and an image loader");
  const auto alone = make_thread_communicators(1);
  Communicator& world = environment.ranks != nullptr ? *environment.ranks : *alone[0];
  run_as_rank(world, [&] {
    check_apart(config.output_dir, config.model_name_or_path);
    const RunStart start = agree_on_start(config.output_dir, config.saving, config.overwrite_output_dir,
                                          config_values(config), world);
    Trainer(config, environment, start, world).run();
    world.barrier();  // No rank is done before the model is on the disk.
  });
}

}  // namespace ferro
