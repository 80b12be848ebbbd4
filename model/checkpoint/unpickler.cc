#include "model/checkpoint/unpickler.h"

#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "model/checkpoint/byte_source.h"

namespace ounce::model {
namespace {

constexpr size_t kMaxRank = 64;

// A value by its place among all of them. Never a pointer: lists and dicts may
// hold themselves, and nothing here follows values recursively.
using Ref = uint32_t;

enum class Kind {
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kTuple,
  kList,
  kDict,  //
  kGlobal,
  kStorage,
  kTensor,
  kOpaque
};

enum class Global {
  kOrderedDict,
  kTensor,
  kParameter,
  kSize,
  kDevice,
  kStorage
};

struct Value {
  Kind kind = Kind::kNone;
  int64_t number = 0;  // kInt, kBool; elements of kStorage; offset of kTensor
  std::string_view text;   // kString; key of kStorage
  std::vector<Ref> items;  // elements; key, value, ...; storage, size, stride
  Global global = Global::kOrderedDict;
  quant::DType dtype = quant::DType::kF32;  // kGlobal kStorage, kStorage
};

struct KnownGlobal {
  std::string_view module, name;
  Global global;
  quant::DType dtype = quant::DType::kF32;
};
constexpr KnownGlobal kKnownGlobals[] = {
    {"collections", "OrderedDict", Global::kOrderedDict},
    {"torch._utils", "_rebuild_tensor_v2", Global::kTensor},
    {"torch._utils", "_rebuild_parameter", Global::kParameter},
    {"torch", "Size", Global::kSize},
    {"torch", "device", Global::kDevice},
    {"torch", "DoubleStorage", Global::kStorage, quant::DType::kF64},
    {"torch", "FloatStorage", Global::kStorage, quant::DType::kF32},
    {"torch", "HalfStorage", Global::kStorage, quant::DType::kF16},
    {"torch", "BFloat16Storage", Global::kStorage, quant::DType::kBF16},
    {"torch", "LongStorage", Global::kStorage, quant::DType::kI64},
    {"torch", "IntStorage", Global::kStorage, quant::DType::kI32},
    {"torch", "ShortStorage", Global::kStorage, quant::DType::kI16},
    {"torch", "CharStorage", Global::kStorage, quant::DType::kI8},
    {"torch", "ByteStorage", Global::kStorage, quant::DType::kU8},
    {"torch", "BoolStorage", Global::kStorage, quant::DType::kBool},
};

class Machine {
 public:
  explicit Machine(std::string_view pickle) : pickle_(pickle) {}

  // Runs to STOP and returns what is on top then.
  absl::StatusOr<Ref> Run();

  const Value& value(Ref ref) const { return values_[ref]; }
  absl::StatusOr<std::vector<PickledTensor>> StateDict(Ref top) const;

 private:
  absl::Status Step(unsigned char opcode);
  absl::Status Fail(const std::string& reason) const {
    return absl::InvalidArgumentError(
        absl::StrCat("pickle at byte ", opcode_at_, ": ", reason));
  }

  // The next `n` bytes of the pickle.
  absl::StatusOr<std::string_view> Take(uint64_t n);
  absl::StatusOr<std::string_view> TakeLine();
  // A little-endian number of `n` <= 8 bytes.
  absl::StatusOr<uint64_t> TakeNumber(int n);

  absl::Status Push(Ref ref);
  absl::Status PushNew(Value value);
  absl::Status PushInt(int64_t number);
  absl::Status PushText(absl::StatusOr<uint64_t> length);
  absl::StatusOr<Ref> Pop();
  absl::StatusOr<Ref> Top() const;
  // All above the last mark, and the mark.
  absl::StatusOr<std::vector<Ref>> PopToMark();
  absl::Status PushTuple(size_t n);

  absl::Status Remember(uint64_t slot);
  absl::Status Recall(uint64_t slot);
  absl::Status Extend(Kind kind, const std::vector<Ref>& items);
  absl::Status PushGlobal(std::string_view module, std::string_view name);
  absl::Status PushStorage();
  absl::Status Reduce();
  absl::Status PushTensor(const std::vector<Ref>& args);
  bool IsShape(Ref ref) const;

  const std::string_view pickle_;
  size_t at_ = 0;         // the next byte
  size_t opcode_at_ = 0;  // the byte of the opcode that runs
  std::vector<Value> values_;
  std::vector<Ref> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::vector<Ref> memo_;      // kNoRef: nothing there
  static constexpr Ref kNoRef = ~Ref{0};
};

absl::StatusOr<std::string_view> Machine::Take(uint64_t n) {
  if (n > pickle_.size() - at_) return Fail("truncated");
  at_ += n;
  return pickle_.substr(at_ - n, n);
}

absl::StatusOr<std::string_view> Machine::TakeLine() {
  const size_t end = pickle_.find('\n', at_);
  if (end == std::string_view::npos) return Fail("truncated");
  const std::string_view line = pickle_.substr(at_, end - at_);
  at_ = end + 1;
  return line;
}

absl::StatusOr<uint64_t> Machine::TakeNumber(int n) {
  ASSIGN_OR_RETURN(const std::string_view bytes, Take(n));
  uint64_t number = 0;
  for (int i = n - 1; i >= 0; --i) {
    number = number << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return number;
}

absl::Status Machine::Push(Ref ref) {
  if (stack_.size() >= kMaxPickleValues) return Fail("too many values");
  stack_.push_back(ref);
  return absl::OkStatus();
}

absl::Status Machine::PushNew(Value value) {
  if (values_.size() >= kMaxPickleValues) return Fail("too many values");
  values_.push_back(std::move(value));
  return Push(static_cast<Ref>(values_.size() - 1));
}

absl::Status Machine::PushInt(int64_t number) {
  Value value;
  value.kind = Kind::kInt;
  value.number = number;
  return PushNew(std::move(value));
}

absl::Status Machine::PushText(absl::StatusOr<uint64_t> length) {
  RETURN_IF_ERROR(length.status());
  Value value;
  value.kind = Kind::kString;
  ASSIGN_OR_RETURN(value.text, Take(*length));
  return PushNew(std::move(value));
}

absl::StatusOr<Ref> Machine::Top() const {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
    return Fail("nothing on the stack");
  }
  return stack_.back();
}

absl::StatusOr<Ref> Machine::Pop() {
  ASSIGN_OR_RETURN(const Ref top, Top());
  stack_.pop_back();
  return top;
}

absl::StatusOr<std::vector<Ref>> Machine::PopToMark() {
  if (marks_.empty()) return Fail("no mark on the stack");
  const size_t height = marks_.back();
  marks_.pop_back();
  std::vector<Ref> items(stack_.begin() + height, stack_.end());
  stack_.resize(height);
  return items;
}

absl::Status Machine::PushTuple(size_t n) {
  Value tuple;
  tuple.kind = Kind::kTuple;
  tuple.items.resize(n);
  for (size_t i = n; i-- > 0;) {
    ASSIGN_OR_RETURN(tuple.items[i], Pop());
  }
  return PushNew(std::move(tuple));
}

absl::Status Machine::Remember(uint64_t slot) {
  if (slot >= kMaxPickleValues) return Fail("memo slot out of range");
  ASSIGN_OR_RETURN(const Ref top, Top());
  if (slot >= memo_.size()) memo_.resize(slot + 1, kNoRef);
  memo_[slot] = top;
  return absl::OkStatus();
}

absl::Status Machine::Recall(uint64_t slot) {
  if (slot >= memo_.size() || memo_[slot] == kNoRef) {
    return Fail(absl::StrCat("nothing in memo slot ", slot));
  }
  return Push(memo_[slot]);
}

absl::Status Machine::Extend(Kind kind, const std::vector<Ref>& items) {
  ASSIGN_OR_RETURN(const Ref top, Top());
  Value& container = values_[top];
  if (container.kind != kind ||
      (kind == Kind::kDict && items.size() % 2 != 0)) {
    return Fail(kind == Kind::kDict ? "items for a dict, which is not there"
                                    : "items for a list, which is not there");
  }
  container.items.insert(container.items.end(), items.begin(), items.end());
  return absl::OkStatus();
}

absl::Status Machine::PushGlobal(std::string_view module,
                                 std::string_view name) {
  for (const KnownGlobal& known : kKnownGlobals) {
    if (module == known.module && name == known.name) {
      Value value;
      value.kind = Kind::kGlobal;
      value.global = known.global;
      value.dtype = known.dtype;
      return PushNew(std::move(value));
    }
  }
  return Fail(absl::StrCat(
      "refuses to load ", Quoted(std::string(module) + "." + std::string(name)),
      ", which is not part of a state dict of tensors"));
}

// ("storage", type, key, location, elements) -> the storage
absl::Status Machine::PushStorage() {
  ASSIGN_OR_RETURN(const Ref top, Pop());
  const std::vector<Ref>& id = values_[top].items;
  if (values_[top].kind != Kind::kTuple || id.size() != 5 ||
      values_[id[0]].text != "storage" ||
      values_[id[1]].kind != Kind::kGlobal ||
      values_[id[1]].global != Global::kStorage ||
      values_[id[2]].kind != Kind::kString ||
      values_[id[4]].kind != Kind::kInt || values_[id[4]].number < 0) {
    return Fail(
        "a persistent id that is not ('storage', type, key, location, size)");
  }
  Value storage;
  storage.kind = Kind::kStorage;
  storage.dtype = values_[id[1]].dtype;
  storage.text = values_[id[2]].text;
  storage.number = values_[id[4]].number;
  return PushNew(std::move(storage));
}

bool Machine::IsShape(Ref ref) const {
  const Value& tuple = values_[ref];
  if (tuple.kind != Kind::kTuple || tuple.items.size() > kMaxRank) return false;
  for (const Ref item : tuple.items) {
    if (values_[item].kind != Kind::kInt) return false;
  }
  return true;
}

// (storage, offset, size, stride, requires_grad, hooks[, metadata])
absl::Status Machine::PushTensor(const std::vector<Ref>& args) {
  if (args.size() < 6 || args.size() > 7 ||
      values_[args[0]].kind != Kind::kStorage ||
      values_[args[1]].kind != Kind::kInt || !IsShape(args[2]) ||
      !IsShape(args[3]) ||
      values_[args[2]].items.size() != values_[args[3]].items.size()) {
    return Fail(
        "a tensor that is not (storage, offset, size, stride, requires_grad, "
        "hooks)");
  }
  Value tensor;
  tensor.kind = Kind::kTensor;
  tensor.number = values_[args[1]].number;
  tensor.items = {args[0], args[2], args[3]};
  return PushNew(std::move(tensor));
}

absl::Status Machine::Reduce() {
  ASSIGN_OR_RETURN(const Ref args_ref, Pop());
  ASSIGN_OR_RETURN(const Ref function, Pop());
  if (values_[function].kind != Kind::kGlobal ||
      values_[args_ref].kind != Kind::kTuple) {
    return Fail("REDUCE of something that is not an allowed constructor");
  }
  const std::vector<Ref>& args = values_[args_ref].items;
  switch (values_[function].global) {
    case Global::kOrderedDict: {
      if (!args.empty()) break;
      Value dict;
      dict.kind = Kind::kDict;
      return PushNew(std::move(dict));
    }
    case Global::kTensor:
      return PushTensor(args);
    case Global::kParameter:
      if (args.empty() || values_[args[0]].kind != Kind::kTensor) break;
      return Push(args[0]);
    case Global::kSize:
      if (args.size() != 1 || !IsShape(args[0])) break;
      return Push(args[0]);
    case Global::kDevice: {
      Value device;
      device.kind = Kind::kOpaque;
      return PushNew(std::move(device));
    }
    case Global::kStorage:
      break;
  }
  return Fail("arguments that its constructor does not take");
}

absl::Status Machine::Step(unsigned char opcode) {
  Value fresh;
  switch (opcode) {
    case 0x80: {  // PROTO
      ASSIGN_OR_RETURN(const uint64_t version, TakeNumber(1));
      if (version >= 2 && version <= 5) return absl::OkStatus();
      return Fail(absl::StrCat("protocol ", version, " found, 2 to 5 wanted"));
    }
    case 0x95:  // FRAME
      return TakeNumber(8).status();
    case '(':  // MARK
      if (marks_.size() >= kMaxPickleValues) return Fail("too many marks");
      marks_.push_back(stack_.size());
      return absl::OkStatus();
    case 'N':  // NONE
      return Push(0);
    case 0x88:  // NEWTRUE
      return Push(1);
    case 0x89:  // NEWFALSE
      return Push(2);
    case 'J': {  // BININT
      ASSIGN_OR_RETURN(const uint64_t bits, TakeNumber(4));
      return PushInt(static_cast<int32_t>(bits));
    }
    case 'K': {  // BININT1
      ASSIGN_OR_RETURN(const uint64_t number, TakeNumber(1));
      return PushInt(static_cast<int64_t>(number));
    }
    case 'M': {  // BININT2
      ASSIGN_OR_RETURN(const uint64_t number, TakeNumber(2));
      return PushInt(static_cast<int64_t>(number));
    }
    case 0x8a: {  // LONG1: two's complement in as few bytes as it needs
      ASSIGN_OR_RETURN(const uint64_t n, TakeNumber(1));
      if (n > 8) return Fail("an integer of more than 64 bits");
      ASSIGN_OR_RETURN(uint64_t bits, TakeNumber(static_cast<int>(n)));
      if (n > 0 && n < 8 && (bits >> (8 * n - 1)) != 0) bits |= ~0ull << 8 * n;
      return PushInt(static_cast<int64_t>(bits));
    }
    case 'G':  // BINFLOAT: no tensor is described by one
      RETURN_IF_ERROR(Take(8).status());
      fresh.kind = Kind::kFloat;
      return PushNew(std::move(fresh));
    case 'X':  // BINUNICODE
      return PushText(TakeNumber(4));
    case 0x8c:  // SHORT_BINUNICODE
      return PushText(TakeNumber(1));
    case 0x8d:  // BINUNICODE8
      return PushText(TakeNumber(8));
    case ')':  // EMPTY_TUPLE
      return PushTuple(0);
    case 0x85:  // TUPLE1
      return PushTuple(1);
    case 0x86:  // TUPLE2
      return PushTuple(2);
    case 0x87:  // TUPLE3
      return PushTuple(3);
    case 't': {  // TUPLE
      fresh.kind = Kind::kTuple;
      ASSIGN_OR_RETURN(fresh.items, PopToMark());
      return PushNew(std::move(fresh));
    }
    case ']':  // EMPTY_LIST
      fresh.kind = Kind::kList;
      return PushNew(std::move(fresh));
    case '}':  // EMPTY_DICT
      fresh.kind = Kind::kDict;
      return PushNew(std::move(fresh));
    case 'a': {  // APPEND
      ASSIGN_OR_RETURN(const Ref item, Pop());
      return Extend(Kind::kList, {item});
    }
    case 'e': {  // APPENDS
      ASSIGN_OR_RETURN(const std::vector<Ref> items, PopToMark());
      return Extend(Kind::kList, items);
    }
    case 's': {  // SETITEM
      ASSIGN_OR_RETURN(const Ref item, Pop());
      ASSIGN_OR_RETURN(const Ref key, Pop());
      return Extend(Kind::kDict, {key, item});
    }
    case 'u': {  // SETITEMS
      ASSIGN_OR_RETURN(const std::vector<Ref> items, PopToMark());
      return Extend(Kind::kDict, items);
    }
    case 'q': {  // BINPUT
      ASSIGN_OR_RETURN(const uint64_t slot, TakeNumber(1));
      return Remember(slot);
    }
    case 'r': {  // LONG_BINPUT
      ASSIGN_OR_RETURN(const uint64_t slot, TakeNumber(4));
      return Remember(slot);
    }
    case 0x94:  // MEMOIZE
      return Remember(memo_.size());
    case 'h': {  // BINGET
      ASSIGN_OR_RETURN(const uint64_t slot, TakeNumber(1));
      return Recall(slot);
    }
    case 'j': {  // LONG_BINGET
      ASSIGN_OR_RETURN(const uint64_t slot, TakeNumber(4));
      return Recall(slot);
    }
    case 'c': {  // GLOBAL
      ASSIGN_OR_RETURN(const std::string_view module, TakeLine());
      ASSIGN_OR_RETURN(const std::string_view name, TakeLine());
      return PushGlobal(module, name);
    }
    case 0x93: {  // STACK_GLOBAL
      ASSIGN_OR_RETURN(const Ref name, Pop());
      ASSIGN_OR_RETURN(const Ref module, Pop());
      return PushGlobal(values_[module].text, values_[name].text);
    }
    case 'R':  // REDUCE
      return Reduce();
    case 'b': {  // BUILD: the `_metadata` of a state dict, which says nothing
                 // about its tensors
      RETURN_IF_ERROR(Pop().status());
      ASSIGN_OR_RETURN(const Ref top, Top());
      if (values_[top].kind == Kind::kDict) return absl::OkStatus();
      return Fail("BUILD of something that is not a dict");
    }
    case 'Q':  // BINPERSID
      return PushStorage();
    default:
      return Fail(absl::StrFormat(
          "opcode 0x%02x is not one that a state dict of tensors needs",
          opcode));
  }
}

absl::StatusOr<Ref> Machine::Run() {
  if (static_cast<int64_t>(pickle_.size()) > kMaxPickleBytes) {
    return Fail(absl::StrCat(pickle_.size(), " bytes found, at most ",
                             kMaxPickleBytes, " wanted"));
  }
  values_.resize(3);  // None, True, False
  values_[1].kind = values_[2].kind = Kind::kBool;
  while (true) {
    opcode_at_ = at_;
    ASSIGN_OR_RETURN(const uint64_t opcode, TakeNumber(1));
    if (opcode == '.') return Pop();
    RETURN_IF_ERROR(Step(static_cast<unsigned char>(opcode)));
  }
}

absl::StatusOr<std::vector<PickledTensor>> Machine::StateDict(Ref top) const {
  const Value& dict = values_[top];
  if (dict.kind != Kind::kDict) {
    return Fail("something else than a dict at the top");
  }
  std::vector<PickledTensor> tensors;
  std::set<std::string_view> names;
  std::string nested;
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    const Value& key = values_[dict.items[i]];
    const Value& item = values_[dict.items[i + 1]];
    if (key.kind != Kind::kString) {
      return Fail("a key of the state dict is not a string");
    }
    if (!names.insert(key.text).second) {
      return Fail(absl::StrCat("key ", Quoted(key.text), " comes twice"));
    }
    if (item.kind == Kind::kDict &&
        (key.text == "state_dict" || key.text == "model")) {
      nested = std::string(key.text);
    }
    if (item.kind != Kind::kTensor) continue;
    const Value& storage = values_[item.items[0]];
    PickledTensor tensor;
    tensor.name = std::string(key.text);
    tensor.storage_key = std::string(storage.text);
    tensor.storage_elements = storage.number;
    tensor.dtype = storage.dtype;
    tensor.offset = item.number;
    for (const Ref extent : values_[item.items[1]].items) {
      tensor.shape.push_back(values_[extent].number);
    }
    for (const Ref stride : values_[item.items[2]].items) {
      tensor.strides.push_back(values_[stride].number);
    }
    tensors.push_back(std::move(tensor));
  }
  if (tensors.empty() && !nested.empty()) {
    return absl::UnimplementedError(
        absl::StrCat("a training checkpoint with the tensors under '", nested,
                     "' found, the state dict alone wanted; in Python: "
                     "torch.save(torch.load(path)['",
                     nested, "'], path)"));
  }
  return tensors;
}

}  // namespace

absl::StatusOr<std::vector<PickledTensor>> UnpickleStateDict(
    std::string_view pickle) {
  Machine machine(pickle);
  ASSIGN_OR_RETURN(const Ref top, machine.Run());
  return machine.StateDict(top);
}

}  // namespace ounce::model
