#include "model/tokenizer/onig_repeats.h"

#include <algorithm>
#include <utility>

namespace ounce::model {
namespace {

using Kind = OnigNode::Kind;
constexpr int kEndless = OnigNode::kEndless;

// Index in kReduced; -1 for others.
int KindOf(int min, int max, bool lazy) {
  const int first = lazy ? 3 : 0;
  if (min == 0 && max == 1) return first;
  if (min == 0 && max == kEndless) return first + 1;
  if (min == 1 && max == kEndless) return first + 2;
  return -1;
}

enum Reduced {
  kAsIs,
  kInner,         // the inner repeat alone
  kStar,          // *
  kPlus,          // +
  kLazyStar,      // *?
  kLazyQuestion,  // ??
  kPlusInLazy,    // (?:+)??
};

// By the inner repeat, then the outer one: ?, *, +, ??, *?, +?.
//
// Source: Oniguruma 6.9.10, regparse.c, ReduceTypeTable.
constexpr Reduced kReduced[6][6] = {
    {kInner, kStar, kStar, kLazyQuestion, kLazyStar, kAsIs},
    {kInner, kInner, kInner, kPlusInLazy, kPlusInLazy, kInner},
    {kStar, kStar, kInner, kAsIs, kPlusInLazy, kInner},
    {kInner, kLazyStar, kLazyStar, kInner, kLazyStar, kLazyStar},
    {kInner, kInner, kInner, kInner, kInner, kInner},
    {kAsIs, kStar, kPlus, kLazyStar, kLazyStar, kInner}};

bool CanBeRepeated(const OnigNode& item) {
  const auto is_anchor = [](const OnigNode& node) {
    return node.kind == Kind::kAnchor || node.kind == Kind::kLook;
  };
  if (item.kind == Kind::kAlternatives) {
    return std::none_of(item.children.begin(), item.children.end(), is_anchor);
  }
  return !is_anchor(item);
}

OnigNode MakeRepeat(OnigNode item, int min, int max, bool lazy) {
  OnigNode node;
  node.kind = Kind::kRepeat;
  node.min = min;
  node.max = max;
  node.lazy = lazy;
  node.children.push_back(std::move(item));
  return node;
}

OnigNode Reduce(OnigNode inner, OnigRepeat outer) {
  const int inner_kind = KindOf(inner.min, inner.max, inner.lazy);
  const int outer_kind = KindOf(outer.min, outer.max, outer.lazy);
  if (inner_kind >= 0 && outer_kind < 0) {
    const bool many = inner_kind == 1 || inner_kind == 2;
    if (many && outer.max != kEndless && outer.max > 1 && !outer.lazy) {
      outer.max = outer.min == 0 ? 1 : outer.min;
    }
  } else if (inner_kind >= 0) {
    OnigNode& body = inner.children[0];
    switch (kReduced[inner_kind][outer_kind]) {
      case kInner:
        return inner;
      case kStar:
        return MakeRepeat(std::move(body), 0, kEndless, false);
      case kPlus:
        return MakeRepeat(std::move(body), 1, kEndless, false);
      case kLazyStar:
        return MakeRepeat(std::move(body), 0, kEndless, true);
      case kLazyQuestion:
        return MakeRepeat(std::move(body), 0, 1, true);
      case kPlusInLazy:
        return MakeRepeat(MakeRepeat(std::move(body), 1, kEndless, false), 0, 1,
                          true);
      case kAsIs:
        break;
    }
  }
  return MakeRepeat(std::move(inner), outer.min, outer.max, outer.lazy);
}

}  // namespace

absl::StatusOr<OnigNode> Repeated(OnigNode item, OnigRepeat repeat) {
  if (!CanBeRepeated(item)) {
    return NoPattern("what matches no character can't be repeated");
  }
  OnigNode node;
  if (repeat.min == 1 && repeat.max == 1) {
    node = std::move(item);
  } else if (item.kind == Kind::kRepeat) {
    node = Reduce(std::move(item), repeat);
  } else {
    node = MakeRepeat(std::move(item), repeat.min, repeat.max, repeat.lazy);
  }
  if (!repeat.possessive) return node;
  OnigNode atomic;
  atomic.kind = Kind::kGroup;
  atomic.text = "(?>";
  atomic.children.push_back(std::move(node));
  return atomic;
}

std::string OptionsOpening(OnigOptions options) {
  return StrCat(
      "(?", options.ignore_case ? "i" : "", options.dot_all ? "s" : "",
      options.ignore_case && options.dot_all ? "" : "-",
      options.ignore_case ? "" : "i", options.dot_all ? "" : "s", ":");
}

}  // namespace ounce::model
