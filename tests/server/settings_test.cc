#include "server/settings.h"

#include <google/protobuf/descriptor.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ounce/v1/server_config.pb.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::server {
namespace {

using google::protobuf::FieldDescriptor;

const FieldDescriptor* FieldOf(const std::string& name) {
  const auto* field = v1::ServerConfig::descriptor()->FindFieldByName(name);
  return field != nullptr ? field
                          : v1::Limits::descriptor()->FindFieldByName(name);
}

TEST(SettingsTest, EachHasAFieldOfItsNameThatHoldsItsValues) {
  for (const Setting& setting : Settings()) {
    const std::string name(setting.name);
    SCOPED_TRACE(name);
    const FieldDescriptor* field = FieldOf(name);
    ASSERT_NE(field, nullptr) << "add it to server_config.proto";
    EXPECT_EQ(field->is_repeated(), setting.type == SettingType::kList);
    switch (setting.type) {
      case SettingType::kText:
      case SettingType::kChoice:
      case SettingType::kList:
        EXPECT_EQ(field->cpp_type(), FieldDescriptor::CPPTYPE_STRING);
        break;
      case SettingType::kSeconds:
      case SettingType::kRatio:
        EXPECT_EQ(field->cpp_type(), FieldDescriptor::CPPTYPE_DOUBLE);
        break;
      case SettingType::kFlag:
        EXPECT_EQ(field->cpp_type(), FieldDescriptor::CPPTYPE_BOOL);
        break;
      case SettingType::kCount:
      case SettingType::kBytes:
        if (field->cpp_type() == FieldDescriptor::CPPTYPE_UINT32) {
          EXPECT_LE(setting.max, int64_t{UINT32_MAX});
        } else {
          EXPECT_EQ(field->cpp_type(), FieldDescriptor::CPPTYPE_UINT64);
        }
        EXPECT_GE(setting.min, 0);
    }
  }
}

TEST(SettingsTest, EachFieldIsASetting) {
  std::set<std::string> names;
  for (const Setting& setting : Settings()) {
    EXPECT_TRUE(names.insert(std::string(setting.name)).second)
        << setting.name << " is there twice";
  }
  for (const auto* message :
       {v1::ServerConfig::descriptor(), v1::Limits::descriptor()}) {
    for (int i = 0; i < message->field_count(); ++i) {
      const FieldDescriptor* field = message->field(i);
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) continue;
      EXPECT_EQ(names.count(field->name()), 1) << field->full_name();
    }
  }
}

TEST(SettingsTest, EachTypeOfTargetFitsItsType) {
  for (const Setting& setting : Settings()) {
    SCOPED_TRACE(std::string(setting.name));
    EXPECT_FALSE(setting.help.empty());
    EXPECT_FALSE(setting.help.ends_with('.'));
    switch (setting.type) {
      case SettingType::kText:
        EXPECT_TRUE(
            std::holds_alternative<std::string& (*)(Config&)>(setting.to));
        EXPECT_FALSE(setting.form.empty());
        break;
      case SettingType::kChoice:
        EXPECT_GE(setting.choices.size(), 2u);
        break;
      case SettingType::kList:
        EXPECT_TRUE(
            std::holds_alternative<std::vector<std::string>& (*)(Config&)>(
                setting.to));
        EXPECT_FALSE(setting.form.empty());
        break;
      case SettingType::kSeconds:
        EXPECT_TRUE(
            std::holds_alternative<absl::Duration& (*)(Config&)>(setting.to));
        break;
      case SettingType::kRatio:
        EXPECT_TRUE(std::holds_alternative<double& (*)(Config&)>(setting.to));
        break;
      case SettingType::kFlag:
        EXPECT_TRUE(std::holds_alternative<bool& (*)(Config&)>(setting.to));
        break;
      case SettingType::kCount:
      case SettingType::kBytes:
        EXPECT_TRUE(std::holds_alternative<int64_t& (*)(Config&)>(setting.to));
    }
  }
}

TEST(SettingsTest, DefaultsAreInRange) {
  // A field that is set to a default is taken.
  Config defaults;
  for (const Setting& setting : Settings()) {
    const auto* to = std::get_if<int64_t& (*)(Config&)>(&setting.to);
    if (to == nullptr) continue;
    EXPECT_GE((*to)(defaults), setting.min) << setting.name;
    EXPECT_LE((*to)(defaults), setting.max) << setting.name;
  }
}

TEST(SettingsTest, FlagsAndFileMeetInOneConfig) {
  v1::ServerConfig file;
  file.mutable_limits()->set_max_new_tokens(5);
  for (const Setting& setting : Settings()) {
    if (setting.name == "kv_cache_bytes") {
      ASSERT_OK(SetField(setting, {"2MiB"}, &file));
    }
    if (setting.name == "listen") {
      ASSERT_OK(SetField(setting, {"[::1]:0"}, &file));
    }
  }
  EXPECT_EQ(file.kv_cache_bytes(), 2 << 20);
  Config config;
  ASSERT_OK(ApplyFields(file, &config));
  EXPECT_EQ(config.limits.max_new_tokens, 5);
  EXPECT_EQ(config.kv_cache_bytes, 2 << 20);
  EXPECT_EQ(config.listen.inference, "[::1]:0");
  EXPECT_EQ(config.listen.admin, Config().listen.admin);
}

std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// With OUNCE_WRITE_DOCS set, writes the table instead of checking it.
TEST(SettingsTest, TheDocumentedTableIsTheRealOne) {
  const std::string path = OUNCE_SOURCE_ROOT "/docs/operations.md";
  std::string page = ReadAll(path);
  const std::string head = "| Flag | In the file |";
  const size_t begin = page.find(head);
  ASSERT_NE(begin, std::string::npos) << "no table in " << path;
  const size_t end = page.find("\n\n", begin) + 1;
  if (std::getenv("OUNCE_WRITE_DOCS") != nullptr) {
    page.replace(begin, end - begin, SettingsTable());
    std::ofstream(path) << page;
    return;
  }
  EXPECT_EQ(page.substr(begin, end - begin), SettingsTable())
      << "write it by OUNCE_WRITE_DOCS=1 build/release/tests/server/"
         "settings_test";
}

TEST(SettingsTest, TheDocumentedExampleIsRead) {
  const std::string page = ReadAll(OUNCE_SOURCE_ROOT "/docs/operations.md");
  const std::string head = "```textproto\n";
  const size_t begin = page.find(head) + head.size();
  const std::string example =
      page.substr(begin, page.find("```", begin) - begin);
  const testing::TempFolder folder;
  const std::string file = folder.WriteFile("server.textproto", example);
  const char* const argv[] = {"ounce-server", "--config", file.c_str()};
  ASSERT_OK_AND_ASSIGN(const Config config, ReadConfig(3, argv));
  EXPECT_EQ(config.models.size(), 2u);
  EXPECT_EQ(config.models[0].plan.ToString(), "linear");
  EXPECT_EQ(config.models[1].plan.ToString(), "@convolution=linear linear");
  EXPECT_EQ(config.kv_cache_bytes, 512 << 20);
  EXPECT_EQ(config.limits.max_queued_requests, 64);
}

}  // namespace
}  // namespace ounce::server
