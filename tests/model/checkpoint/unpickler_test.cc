#include "model/checkpoint/unpickler.h"

#include <string>

#include "tests/testing/checkpoint_files.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::PickleWriter;
using ::ounce::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A dict, ready for keys and values.
PickleWriter Dict() {
  PickleWriter pickle;
  pickle.Raw("}(");
  return pickle;
}

PickleWriter& Weight(PickleWriter& pickle) {
  return pickle.Tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1});
}

TEST(UnpicklerTest, DescribesEachTensorInOrder) {
  PickleWriter pickle;
  pickle.Global("collections", "OrderedDict").Raw(")R(");
  pickle.Text("w").Tensor("HalfStorage", "17", 100, 4, {2, 3}, {3, 1});
  pickle.Text("a").Tensor("LongStorage", "x", 1, 0, {}, {});
  ASSERT_OK_AND_ASSIGN(const auto tensors,
                       UnpickleStateDict(pickle.Raw("u").Finish()));
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "w");
  EXPECT_EQ(tensors[0].storage_key, "17");
  EXPECT_EQ(tensors[0].storage_elements, 100);
  EXPECT_EQ(tensors[0].dtype, quant::DType::kF16);
  EXPECT_EQ(tensors[0].offset, 4);
  EXPECT_THAT(tensors[0].shape, ElementsAre(2, 3));
  EXPECT_THAT(tensors[0].strides, ElementsAre(3, 1));
  EXPECT_EQ(tensors[1].name, "a");
  EXPECT_EQ(tensors[1].dtype, quant::DType::kI64);
  EXPECT_THAT(tensors[1].shape, ElementsAre());
}

TEST(UnpicklerTest, LeavesOutWhatIsNoTensor) {
  PickleWriter pickle = Dict();
  pickle.Text("none").Raw("N").Text("yes").Raw("\x88").Text("list");
  pickle.Raw("]").Raw("(").Int(1).Int(2).Raw("e").Int(3).Raw("a");
  pickle.Text("text").Text("hello").Text("nested").Raw("}").Text("x").Int(1);
  pickle.Raw("s").Text("device").Global("torch", "device").Text("cpu");
  pickle.Raw("\x85R").Text("size").Global("torch", "Size").Tuple({2, 3});
  pickle.Raw("\x85R").Text("float").Raw(std::string("G\0\0\0\0\0\0\0\0", 9));
  pickle.Text("w");
  ASSERT_OK_AND_ASSIGN(const auto tensors,
                       UnpickleStateDict(Weight(pickle).Raw("u").Finish()));
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].name, "w");
}

TEST(UnpicklerTest, TakesIntegersOfAllSizes) {
  const auto with_offset = [](std::string_view opcodes) {
    PickleWriter pickle = Dict();
    pickle.Text("w").Global("torch._utils", "_rebuild_tensor_v2").Raw("((");
    pickle.Text("storage").Global("torch", "FloatStorage").Text("0");
    pickle.Text("cpu").Int(1).Raw("tQ").Raw(opcodes).Raw("))\x89NtRu");
    return UnpickleStateDict(pickle.Finish());
  };
  const struct {
    std::string opcodes;
    int64_t value;
  } cases[] = {
      {"K\xff", 255},
      {"M\xff\xff", 65535},
      {"J\xff\xff\xff\xff", -1},
      {std::string("\x8a\0", 2), 0},
      {"\x8a\x01\xff", -1},
      {"\x8a\x02\xff\x7f", 32767},
      {std::string("\x8a\x05\0\0\0\0\x01", 7), int64_t{1} << 32},
      {std::string("\x8a\x08\0\0\0\0\0\0\0\x80", 10), INT64_MIN},
  };
  for (const auto& c : cases) {
    ASSERT_OK_AND_ASSIGN(const auto tensors, with_offset(c.opcodes));
    EXPECT_EQ(tensors[0].offset, c.value);
  }
  EXPECT_THAT(with_offset(std::string("\x8a\x09") + std::string(9, '\1')),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("an integer of more than 64 bits")));
}

TEST(UnpicklerTest, NamesTheGlobalThatItRefuses) {
  const struct {
    std::string pickle;
    const char* global;
  } cases[] = {
      {PickleWriter().Global("os", "system").Finish(), "'os.system'"},
      {PickleWriter().Global("builtins", "eval").Finish(), "'builtins.eval'"},
      {PickleWriter().Global("torch", "load").Finish(), "'torch.load'"},
      {PickleWriter().Global("torch", "storage").Finish(), "'torch.storage'"},
      {PickleWriter().Global("collections", "").Finish(), "'collections.'"},
      // Names with dots, which Python would follow attribute by attribute.
      {PickleWriter()
           .Global("collections", "OrderedDict.__init__.__globals__")
           .Finish(),
       "'collections.OrderedDict.__init__.__globals__'"},
      {PickleWriter().Text("os").Text("system").Raw("\x93").Finish(),
       "'os.system'"},
      {PickleWriter().Int(1).Int(2).Raw("\x93").Finish(), "'.'"},
      // Deep inside an argument.
      {Dict()
           .Text("w")
           .Global("torch._utils", "_rebuild_parameter")
           .Raw("((]")
           .Global("builtins", "getattr")
           .Finish(),
       "'builtins.getattr'"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(
        UnpickleStateDict(c.pickle),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 HasSubstr(std::string("refuses to load ") + c.global)));
  }
}

TEST(UnpicklerTest, RefusesWhatIsMalformed) {
  PickleWriter twice = Dict();
  Weight(twice.Text("w"));
  Weight(twice.Text("w"));
  const std::vector<int32_t> rank65(65, 1);
  const struct {
    const char* name;
    std::string pickle;
    const char* reason;
  } cases[] = {
      {"empty", "", "pickle at byte 0: truncated"},
      {"no STOP", "\x80\x02}", "truncated"},
      {"protocol 1", "\x80\x01}.", "protocol must be 2 to 5, is 1"},
      {"protocol 6", "\x80\x06}.", "protocol must be 2 to 5, is 6"},
      {"INST", "\x80\x02(ios\nsystem\n.", "opcode 0x69"},
      {"OBJ", "\x80\x02(o.", "opcode 0x6f"},
      {"NEWOBJ", "\x80\x02\x81.", "opcode 0x81"},
      {"EXT1", "\x80\x02\x82\x01.", "opcode 0x82"},
      {"PERSID", "\x80\x02Px\n.", "opcode 0x50"},
      {"POP", "\x80\x02}0.", "opcode 0x30"},
      {"DUP", "\x80\x02}2.", "opcode 0x32"},
      {"stack empty", "\x80\x02.", "nothing on the stack"},
      {"tuple of nothing", "\x80\x02\x85.", "nothing on the stack"},
      {"below a mark", "\x80\x02}(\x85.", "nothing on the stack"},
      {"no mark", "\x80\x02t.", "no mark"},
      {"SETITEMS on a list", "\x80\x02](NNu.", "items for a dict"},
      {"SETITEMS of three", "\x80\x02}(NNNu.", "items for a dict"},
      {"APPEND to a dict", "\x80\x02}Na.", "items for a list"},
      {"memo slot", "\x80\x02h\x07.", "nothing in memo slot 7"},
      {"huge memo slot", "\x80\x02}r\xff\xff\xff\xff.", "memo slot out of"},
      {"text past the end", "\x80\x02X\xff\xff\xff\xffx.", "truncated"},
      {"name not UTF-8", "\x80\x02}\x8c\x03w\xff\nNs.",
       "pickle at byte 3: text 'w\\xff\\n' is not UTF-8"},
      {"name a surrogate", std::string("\x80\x02}X\3\0\0\0\xed\xa0\x80Ns.", 13),
       "text '\\xed\\xa0\\x80' is not UTF-8"},
      {"REDUCE of no global", "\x80\x02N)R.", "not an allowed constructor"},
      {"REDUCE without a tuple",
       PickleWriter().Global("collections", "OrderedDict").Raw("]R").Finish(),
       "not an allowed constructor"},
      {"call of a storage type",
       PickleWriter().Global("torch", "FloatStorage").Raw(")R").Finish(),
       "arguments that its constructor does not take"},
      {"OrderedDict of something",
       PickleWriter()
           .Global("collections", "OrderedDict")
           .Raw("]\x85R")
           .Finish(),
       "arguments that its constructor does not take"},
      {"Size of text",
       PickleWriter().Global("torch", "Size").Text("x").Raw("\x85R").Finish(),
       "arguments that its constructor does not take"},
      {"parameter of nothing",
       PickleWriter()
           .Global("torch._utils", "_rebuild_parameter")
           .Raw("N\x85R")
           .Finish(),
       "arguments that its constructor does not take"},
      {"tensor of nothing",
       PickleWriter()
           .Global("torch._utils", "_rebuild_tensor_v2")
           .Raw(")R")
           .Finish(),
       "a tensor that is not"},
      {"shape and stride of different rank",
       PickleWriter().Tensor("FloatStorage", "0", 6, 0, {2, 3}, {1}).Finish(),
       "a tensor that is not"},
      {"rank 65",
       PickleWriter()
           .Tensor("FloatStorage", "0", 1, 0, rank65, rank65)
           .Finish(),
       "a tensor that is not"},
      {"storage of negative size",
       PickleWriter().Tensor("FloatStorage", "0", -1, 0, {1}, {1}).Finish(),
       "a persistent id that is not"},
      {"persistent id of text", PickleWriter().Text("0").Raw("Q").Finish(),
       "a persistent id that is not"},
      {"BUILD of a tensor", Weight(Dict().Text("w")).Raw("}b").Finish(),
       "BUILD of something that is not a dict"},
      {"no dict", "\x80\x02].", "what it holds is not a dict"},
      {"key a number", "\x80\x02}(K\x01Nu.", "is not a string"},
      {"key twice", twice.Raw("u").Finish(), "key 'w' comes twice"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_THAT(
        UnpickleStateDict(c.pickle),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.reason)));
  }
}

TEST(UnpicklerTest, SaysWhatToDoWithATrainingCheckpoint) {
  PickleWriter pickle = Dict();
  pickle.Text("epoch").Int(3).Text("state_dict").Raw("}").Text("w");
  EXPECT_THAT(UnpickleStateDict(Weight(pickle).Raw("su").Finish()),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("torch.load(path)['state_dict']")));
}

TEST(UnpicklerTest, BoundsTheValuesOfABomb) {
  EXPECT_THAT(
      UnpickleStateDict(std::string(kMaxPickleBytes + 1, ']')),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("must have at most 33554432 bytes, has 33554433")));
  for (const char* opcode : {"]", "N", "("}) {
    EXPECT_THAT(
        UnpickleStateDict(std::string(kMaxPickleValues + 1, *opcode)),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("too many")));
  }

  // Values that leave the stack again: {None: [], None: [], ...}
  std::string items = "}";
  for (int64_t i = 0; i <= kMaxPickleValues; ++i) items += "N]s";
  EXPECT_THAT(
      UnpickleStateDict(items),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("too many")));
}

TEST(UnpicklerTest, TakesContainersThatHoldThemselves) {
  // d = {}; d['d'] = d; l = [l]; d['l'] = l
  PickleWriter pickle;
  pickle.Raw(std::string("}q\0(", 4)).Text("d").Raw(std::string("h\0", 2));
  pickle.Text("l").Raw("]q\1h\1au");
  ASSERT_OK_AND_ASSIGN(const auto tensors, UnpickleStateDict(pickle.Finish()));
  EXPECT_TRUE(tensors.empty());
}

}  // namespace
}  // namespace ounce::model
