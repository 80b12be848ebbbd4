#include "model/checkpoint/pickle_machine.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "model/checkpoint/unpickler.h"
#include "model/files/byte_source.h"

namespace ounce::model {
namespace {

using Kind = PickleValue::Kind;

}  // namespace

absl::Status PickleMachine::Fail(const std::string& reason) const {
  return absl::InvalidArgumentError(
      absl::StrCat("pickle at byte ", opcode_at_, ": ", reason));
}

absl::StatusOr<std::string_view> PickleMachine::Take(uint64_t n) {
  if (n > pickle_.size() - at_) return Fail("truncated");
  at_ += n;
  return pickle_.substr(at_ - n, n);
}

absl::StatusOr<std::string_view> PickleMachine::TakeLine() {
  const size_t end = pickle_.find('\n', at_);
  if (end == std::string_view::npos) return Fail("truncated");
  const std::string_view line = pickle_.substr(at_, end - at_);
  at_ = end + 1;
  return line;
}

absl::StatusOr<uint64_t> PickleMachine::TakeNumber(int n) {
  ASSIGN_OR_RETURN(const std::string_view bytes, Take(n));
  uint64_t number = 0;
  for (int i = n - 1; i >= 0; --i) {
    number = number << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return number;
}

absl::Status PickleMachine::Push(PickleRef ref) {
  if (stack_.size() >= kMaxPickleValues) return Fail("too many values");
  stack_.push_back(ref);
  return absl::OkStatus();
}

absl::Status PickleMachine::PushNew(PickleValue value) {
  if (values_.size() >= kMaxPickleValues) return Fail("too many values");
  values_.push_back(std::move(value));
  return Push(static_cast<PickleRef>(values_.size() - 1));
}

absl::Status PickleMachine::PushInt(int64_t number) {
  PickleValue value;
  value.kind = Kind::kInt;
  value.number = number;
  return PushNew(std::move(value));
}

absl::Status PickleMachine::PushText(absl::StatusOr<uint64_t> length) {
  RETURN_IF_ERROR(length.status());
  PickleValue value;
  value.kind = Kind::kString;
  ASSIGN_OR_RETURN(value.text, Take(*length));
  if (ValidUtf8Prefix(value.text) != value.text.size()) {
    return Fail(absl::StrCat("text ", Quoted(value.text), " is not UTF-8"));
  }
  return PushNew(std::move(value));
}

absl::StatusOr<PickleRef> PickleMachine::Top() const {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
    return Fail("nothing on the stack");
  }
  return stack_.back();
}

absl::StatusOr<PickleRef> PickleMachine::Pop() {
  ASSIGN_OR_RETURN(const PickleRef top, Top());
  stack_.pop_back();
  return top;
}

absl::StatusOr<std::vector<PickleRef>> PickleMachine::PopToMark() {
  if (marks_.empty()) return Fail("no mark on the stack");
  const size_t height = marks_.back();
  marks_.pop_back();
  std::vector<PickleRef> items(stack_.begin() + height, stack_.end());
  stack_.resize(height);
  return items;
}

absl::Status PickleMachine::PushTuple(size_t n) {
  PickleValue tuple;
  tuple.kind = Kind::kTuple;
  tuple.items.resize(n);
  for (size_t i = n; i-- > 0;) {
    ASSIGN_OR_RETURN(tuple.items[i], Pop());
  }
  return PushNew(std::move(tuple));
}

absl::Status PickleMachine::Remember(uint64_t slot) {
  if (slot >= kMaxPickleValues) return Fail("memo slot out of range");
  ASSIGN_OR_RETURN(const PickleRef top, Top());
  if (slot >= memo_.size()) memo_.resize(slot + 1, kNoRef);
  memo_[slot] = top;
  return absl::OkStatus();
}

absl::Status PickleMachine::Recall(uint64_t slot) {
  if (slot >= memo_.size() || memo_[slot] == kNoRef) {
    return Fail(absl::StrCat("nothing in memo slot ", slot));
  }
  return Push(memo_[slot]);
}

absl::Status PickleMachine::Extend(Kind kind,
                                   const std::vector<PickleRef>& items) {
  ASSIGN_OR_RETURN(const PickleRef top, Top());
  PickleValue& container = values_[top];
  if (container.kind != kind ||
      (kind == Kind::kDict && items.size() % 2 != 0)) {
    return Fail(kind == Kind::kDict ? "items for a dict, which is not there"
                                    : "items for a list, which is not there");
  }
  container.items.insert(container.items.end(), items.begin(), items.end());
  return absl::OkStatus();
}

absl::Status PickleMachine::Step(unsigned char opcode) {
  PickleValue fresh;
  switch (opcode) {
    case 0x80: {  // PROTO
      ASSIGN_OR_RETURN(const uint64_t version, TakeNumber(1));
      if (version >= 2 && version <= 5) return absl::OkStatus();
      return Fail(absl::StrCat("protocol must be 2 to 5, is ", version));
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
      ASSIGN_OR_RETURN(const PickleRef item, Pop());
      return Extend(Kind::kList, {item});
    }
    case 'e': {  // APPENDS
      ASSIGN_OR_RETURN(const std::vector<PickleRef> items, PopToMark());
      return Extend(Kind::kList, items);
    }
    case 's': {  // SETITEM
      ASSIGN_OR_RETURN(const PickleRef item, Pop());
      ASSIGN_OR_RETURN(const PickleRef key, Pop());
      return Extend(Kind::kDict, {key, item});
    }
    case 'u': {  // SETITEMS
      ASSIGN_OR_RETURN(const std::vector<PickleRef> items, PopToMark());
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
      ASSIGN_OR_RETURN(const PickleRef name, Pop());
      ASSIGN_OR_RETURN(const PickleRef module, Pop());
      return PushGlobal(values_[module].text, values_[name].text);
    }
    case 'R':  // REDUCE
      return Reduce();
    case 'b': {  // BUILD: the `_metadata` of a state dict, which says nothing
                 // about its tensors
      RETURN_IF_ERROR(Pop().status());
      ASSIGN_OR_RETURN(const PickleRef top, Top());
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

absl::StatusOr<PickleRef> PickleMachine::Run() {
  if (static_cast<int64_t>(pickle_.size()) > kMaxPickleBytes) {
    return Fail(absl::StrCat("must have at most ", kMaxPickleBytes,
                             " bytes, has ", pickle_.size()));
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

}  // namespace ounce::model
