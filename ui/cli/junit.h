// Verdicts as JUnit XML, in the form that Jenkins, GitLab and GitHub's actions read.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vg::cli {

/// One `testcase` element.
struct JunitCase {
    enum class Result { Pass, Failure, Error, Skipped };
    std::string suite;  ///< `classname`; empty: left out
    std::string name;
    double seconds = 0;  ///< wall time
    Result result = Result::Pass;
    std::string type, message;  ///< of a failure or an error; a skipped case has the reason as its message
    std::vector<std::pair<std::string, std::string>> properties;
    std::string out, err;  ///< excerpts of the console and of what the run said; any bytes
};

/// Text for an XML 1.0 document, in an element or an attribute in double quotes: whatever no document may have (control
/// characters, bytes that are not UTF-8, U+FFFE and U+FFFF) becomes '?'. XML 1.0 §2.2.
[[nodiscard]] std::string xml_text(std::string_view bytes);

/// One document with one test suite.
[[nodiscard]] std::string junit_text(std::string_view suite, const std::vector<JunitCase>& cases);

}  // namespace vg::cli
