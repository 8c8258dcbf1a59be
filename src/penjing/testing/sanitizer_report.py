"""C that makes a program of the suites say in one line what a sanitizer found."""

# Says what the address sanitizer found once more, after its pages of details, of which only the last lines are shown.
# Leaks are no concern of kernels, and looking for them fails under a debugger.
SANITIZER_REPORT = r"""
#if defined(__SANITIZE_ADDRESS__)
const char *__asan_default_options(void);
void __asan_set_error_report_callback(void (*callback)(const char *));
const char *__asan_default_options(void) { return "detect_leaks=0"; }
static void suite_found(const char *report)
{
    const char *what = strstr(report, "ERROR:");
    if (what)
        fprintf(stderr, "%.160s\n", what);
}
#define SUITE_REPORT_ERRORS() __asan_set_error_report_callback(suite_found)
#else
#define SUITE_REPORT_ERRORS() ((void)0)
#endif
"""
