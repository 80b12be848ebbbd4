// What the server sees of a loaded model.
#ifndef OUNCE_MODEL_MODEL_H_
#define OUNCE_MODEL_MODEL_H_

#include <cstdint>
#include <string_view>

#include "base/thread_pool.h"
#include "model/layers/run.h"
#include "model/mask_buffers.h"
#include "quant/compute.h"
#include "quant/scratch.h"

namespace ounce::model {

class CausalLm;
class Detector;

// Weights are const after load; what changes during a run (KV cache, scratch)
// belongs to the caller.
//
// Threads: any thread may call const functions, each with state of its own.
class Model {
 public:
  virtual ~Model() = default;

  // As in architectures.def: "codegen".
  virtual std::string_view architecture() const = 0;

  // What its products of floats are computed in.
  virtual quant::Compute compute() const = 0;

  // What its steps run on.
  Run RunOn(ThreadPool& pool, quant::Scratch& scratch,
            LinearObserver* observer = nullptr) const {
    return {pool, scratch, compute(), observer};
  }

  // What tables take of memory that it computed from its config and keeps
  // (rotary frequencies, position biases). Of an outline: what the model's
  // will.
  virtual int64_t table_bytes() const { return 0; }

  virtual MaskBuffers mask_buffers() const { return {}; }

  // What the model can do; null if it can't.
  virtual const CausalLm* causal_lm() const { return nullptr; }
  virtual const Detector* detector() const { return nullptr; }
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_MODEL_H_
