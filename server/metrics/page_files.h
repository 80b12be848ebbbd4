// The page to look at: the files of server/metrics/page, as the build has taken
// them into the program (cmake/embed_files.cmake).
#ifndef OUNCE_SERVER_METRICS_PAGE_FILES_H_
#define OUNCE_SERVER_METRICS_PAGE_FILES_H_

#include <string_view>

namespace ounce::server {

extern const std::string_view kPageHtml;
extern const std::string_view kPageScript;
extern const std::string_view kPageStyle;
extern const std::string_view kPageIcon;

struct PageFile {
  const char* path;
  const char* content_type;
  const std::string_view& content;
};

inline constexpr PageFile kPageFiles[] = {
    {"/", "text/html; charset=utf-8", kPageHtml},
    {"/page.js", "text/javascript; charset=utf-8", kPageScript},
    {"/page.css", "text/css; charset=utf-8", kPageStyle},
    {"/icon.svg", "image/svg+xml", kPageIcon},
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_METRICS_PAGE_FILES_H_
