// The stack machine of unpickler.h, and the values it makes.
//
// Nothing here follows values recursively, and every value, stack slot and memo
// slot costs at least one byte of pickle and counts against kMaxPickleValues.
#ifndef OUNCE_MODEL_CHECKPOINT_PICKLE_MACHINE_H_
#define OUNCE_MODEL_CHECKPOINT_PICKLE_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "quant/dtype.h"

namespace ounce::model {

// A value by its place among all of them; not a pointer, for they move.
using PickleRef = uint32_t;

struct PickleValue {
  enum class Kind {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kTuple,
    kList,
    kDict,
    kConstructor,
    kStorage,
    kTensor,
    kOpaque,  // what is no tensor and not needed: a device, a dtype, ...
  };
  enum class Constructor {
    kOrderedDict,
    kTensor,
    kParameter,
    kSize,
    kUnneeded,  // called with whatever arguments, it makes a kOpaque
    kStorage,
  };

  Kind kind = Kind::kNone;
  // kInt: itself. kStorage: its elements. kTensor: its offset in elements.
  int64_t number = 0;
  // kString: itself. kStorage: its key. Points into the pickle.
  std::string_view text;
  // kTuple, kList: elements. kDict: key, value, key, value, ... kTensor: its
  // kStorage, its shape and its strides (kTuples of kInt, equally long).
  std::vector<PickleRef> items;
  Constructor constructor = Constructor::kOrderedDict;  // of kConstructor
  quant::DType dtype = quant::DType::kF32;  // of kStorage and its constructor
};

// Threads: one at a time. `pickle` must outlive it.
class PickleMachine {
 public:
  explicit PickleMachine(std::string_view pickle) : pickle_(pickle) {}

  // Runs to STOP and returns what is on top then. Call once.
  // Errors: those of UnpickleStateDict.
  absl::StatusOr<PickleRef> Run();

  const PickleValue& value(PickleRef ref) const { return values_[ref]; }

  // kInvalidArgument at the opcode that ran last.
  absl::Status Fail(const std::string& reason) const;

 private:
  absl::Status Step(unsigned char opcode);
  // The next `n` bytes of the pickle.
  absl::StatusOr<std::string_view> Take(uint64_t n);
  absl::StatusOr<std::string_view> TakeLine();
  // A little-endian number of `n` <= 8 bytes.
  absl::StatusOr<uint64_t> TakeNumber(int n);

  absl::Status Push(PickleRef ref);
  absl::Status PushNew(PickleValue value);
  absl::Status PushInt(int64_t number);
  absl::Status PushText(absl::StatusOr<uint64_t> length);
  absl::StatusOr<PickleRef> Pop();
  absl::StatusOr<PickleRef> Top() const;
  // All above the last mark, and the mark.
  absl::StatusOr<std::vector<PickleRef>> PopToMark();
  absl::Status PushTuple(size_t n);

  absl::Status Remember(uint64_t slot);
  absl::Status Recall(uint64_t slot);
  absl::Status Extend(PickleValue::Kind kind,
                      const std::vector<PickleRef>& items);

  // What allowed globals stand for (pickle_constructors.cc).
  absl::Status PushGlobal(std::string_view module, std::string_view name);
  absl::Status PushStorage();
  absl::Status PushTensor(const std::vector<PickleRef>& args);
  absl::Status Reduce();
  bool IsShape(PickleRef ref) const;

  const std::string_view pickle_;
  size_t at_ = 0;         // the next byte
  size_t opcode_at_ = 0;  // the byte of the opcode that runs
  std::vector<PickleValue> values_;
  std::vector<PickleRef> stack_;
  std::vector<size_t> marks_;    // heights of the stack
  std::vector<PickleRef> memo_;  // kNoRef: nothing there
  static constexpr PickleRef kNoRef = ~PickleRef{0};
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_PICKLE_MACHINE_H_
