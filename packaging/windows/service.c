/*
 * alloy-runner-service.exe: answers the Windows service manager and keeps the runner as its child.
 *
 *   alloy-runner-service.exe --name NAME --log FILE --drain-seconds N -- PROGRAM ARGUMENT ...
 *
 * The service manager talks to a service through functions that have to be called in its process, which the runner's runtime
 * cannot do. This program does nothing else: it starts PROGRAM with its output in FILE, reports "running", and passes on what the
 * service manager wants as lines on PROGRAM's standard input: "drain" at a stop, so that running jobs finish, and "stop" after N
 * seconds of that or when the machine shuts down, so that they are ended and reported. What is left a minute later is ended.
 * When PROGRAM ends by itself the service ends with its status, and the service manager starts it again.
 *
 *   alloy-runner-service.exe --set-account NAME ACCOUNT
 *
 * lets the service NAME log on as ACCOUNT, whose password is the line of UTF-8 on standard input: sc.exe wants it as an argument,
 * which everybody on the machine can read.
 */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <stdio.h>
#include <wchar.h>

#define WAIT_STEP_MS 1000
#define STOP_SECONDS 60
#define LOG_LIMIT_BYTES (16LL * 1024 * 1024)
#define PASSWORD_BYTES 1024

static wchar_t name[256] = L"alloy-runner";
static wchar_t log_file[MAX_PATH * 4] = L"";
static DWORD drain_seconds = 7200;
static wchar_t *command = NULL;

static SERVICE_STATUS_HANDLE status_handle;
static SERVICE_STATUS status = {SERVICE_WIN32_OWN_PROCESS, SERVICE_START_PENDING, 0, NO_ERROR, 0, 0, 0};
static HANDLE stop_event;
static volatile LONG shutting_down;

static void report(DWORD state, DWORD wait_hint_ms) {
  status.dwCurrentState = state;
  status.dwWaitHint = wait_hint_ms;
  status.dwControlsAccepted = state == SERVICE_RUNNING        ? SERVICE_ACCEPT_STOP | SERVICE_ACCEPT_SHUTDOWN
                              : state == SERVICE_STOP_PENDING ? SERVICE_ACCEPT_SHUTDOWN
                                                              : 0;
  status.dwCheckPoint = state == SERVICE_RUNNING || state == SERVICE_STOPPED ? 0 : status.dwCheckPoint + 1;
  SetServiceStatus(status_handle, &status);
}

static void fail(DWORD error) {
  status.dwWin32ExitCode = error == NO_ERROR ? ERROR_GEN_FAILURE : error;
  report(SERVICE_STOPPED, 0);
}

static DWORD WINAPI on_control(DWORD control, DWORD type, void *data, void *context) {
  (void)type, (void)data, (void)context;
  switch (control) {
    case SERVICE_CONTROL_SHUTDOWN:
      shutting_down = 1;
      /* fall through */
    case SERVICE_CONTROL_STOP:
      report(SERVICE_STOP_PENDING, 3 * WAIT_STEP_MS);
      SetEvent(stop_event);
      return NO_ERROR;
    case SERVICE_CONTROL_INTERROGATE:
      return NO_ERROR;
    default:
      return ERROR_CALL_NOT_IMPLEMENTED;
  }
}

/* The log of the last time is kept beside the new one when it has become large. */
static HANDLE open_log(void) {
  SECURITY_ATTRIBUTES inherited = {sizeof inherited, NULL, TRUE};
  WIN32_FILE_ATTRIBUTE_DATA about;
  if (GetFileAttributesExW(log_file, GetFileExInfoStandard, &about)) {
    LONGLONG size = ((LONGLONG)about.nFileSizeHigh << 32) | about.nFileSizeLow;
    if (size > LOG_LIMIT_BYTES) {
      wchar_t old[MAX_PATH * 4 + 8];
      wcscpy(old, log_file);
      wcscat(old, L".old");
      MoveFileExW(log_file, old, MOVEFILE_REPLACE_EXISTING);
    }
  }
  return CreateFileW(log_file[0] ? log_file : L"NUL", FILE_APPEND_DATA | SYNCHRONIZE, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                     &inherited, OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
}

/* Waits for the child's end, telling the service manager meanwhile that it takes its time. Ends early at a shutdown. */
static int wait_for(HANDLE child, DWORD seconds, int even_at_shutdown) {
  for (DWORD second = 0; second < seconds && (even_at_shutdown || !shutting_down); second++) {
    report(SERVICE_STOP_PENDING, 3 * WAIT_STEP_MS);
    if (WaitForSingleObject(child, WAIT_STEP_MS) == WAIT_OBJECT_0) return 1;
  }
  return 0;
}

static void say(HANDLE pipe, const char *line) {
  DWORD written;
  WriteFile(pipe, line, (DWORD)strlen(line), &written, NULL);
}

static void WINAPI service_main(DWORD argc, wchar_t **argv) {
  (void)argc, (void)argv;
  status_handle = RegisterServiceCtrlHandlerExW(name, on_control, NULL);
  if (!status_handle) return;
  report(SERVICE_START_PENDING, 10000);

  SECURITY_ATTRIBUTES inherited = {sizeof inherited, NULL, TRUE};
  HANDLE log = open_log();
  HANDLE input, wishes;
  HANDLE job = CreateJobObjectW(NULL, NULL);
  if (log == INVALID_HANDLE_VALUE || !job || !CreatePipe(&input, &wishes, &inherited, 0)) return fail(GetLastError());
  SetHandleInformation(wishes, HANDLE_FLAG_INHERIT, 0);
  /* Whatever way this process ends: nothing of the runner outlives it. */
  JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
  limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
  SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);

  STARTUPINFOW startup = {.cb = sizeof startup, .dwFlags = STARTF_USESTDHANDLES, .hStdInput = input, .hStdOutput = log, .hStdError = log};
  PROCESS_INFORMATION child;
  DWORD how = CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW | CREATE_SUSPENDED;
  if (!CreateProcessW(NULL, command, NULL, NULL, TRUE, how, NULL, NULL, &startup, &child)) return fail(GetLastError());
  CloseHandle(input);
  AssignProcessToJobObject(job, child.hProcess);
  ResumeThread(child.hThread);
  report(SERVICE_RUNNING, 0);

  HANDLE either[] = {child.hProcess, stop_event};
  DWORD code = 1;
  if (WaitForMultipleObjects(2, either, FALSE, INFINITE) == WAIT_OBJECT_0) {
    GetExitCodeProcess(child.hProcess, &code);
    /* Not asked for: also a status of 0 is a reason to start again. */
    status.dwWin32ExitCode = ERROR_SERVICE_SPECIFIC_ERROR;
    status.dwServiceSpecificExitCode = code ? code : 1;
  } else {
    say(wishes, "drain\n");
    if (!wait_for(child.hProcess, drain_seconds, 0)) {
      say(wishes, "stop\n");
      wait_for(child.hProcess, STOP_SECONDS, 1);
    }
  }
  TerminateJobObject(job, 1);
  WaitForSingleObject(child.hProcess, 5000);
  report(SERVICE_STOPPED, 0);
}

/* The next word of a command line, unquoted by the rules of CommandLineToArgvW as far as paths and names need them. */
static wchar_t *next_word(wchar_t *at, wchar_t *into, size_t room) {
  size_t length = 0;
  int quoted = 0;
  while (*at == L' ' || *at == L'\t') at++;
  for (; *at && (quoted || (*at != L' ' && *at != L'\t')); at++) {
    if (*at == L'"') quoted = !quoted;
    else if (length + 1 < room) into[length++] = *at;
  }
  into[length] = 0;
  return at;
}

static int problem(const char *what, DWORD error) {
  char text[512];
  DWORD length = FormatMessageA(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, error, 0, text, sizeof text, NULL);
  while (length && (text[length - 1] == '\n' || text[length - 1] == '\r')) length--;
  fprintf(stderr, "%s: error %lu %.*s\n", what, (unsigned long)error, (int)length, text);
  return error ? (int)error : 1;
}

static int set_account(const wchar_t *service, const wchar_t *account) {
  static char bytes[PASSWORD_BYTES];
  static wchar_t password[PASSWORD_BYTES];
  HANDLE input = GetStdHandle(STD_INPUT_HANDLE);
  DWORD length = 0, more = 0;
  while (length < PASSWORD_BYTES - 1 && ReadFile(input, bytes + length, PASSWORD_BYTES - 1 - length, &more, NULL) && more) length += more;
  while (length && (bytes[length - 1] == '\n' || bytes[length - 1] == '\r')) length--;
  if (length == PASSWORD_BYTES - 1) return problem("the password is too long", ERROR_INVALID_PARAMETER);
  if (length && !MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, bytes, (int)length, password, PASSWORD_BYTES - 1))
    return problem("the password is no UTF-8", GetLastError());
  SecureZeroMemory(bytes, sizeof bytes);

  SC_HANDLE manager = OpenSCManagerW(NULL, NULL, SC_MANAGER_CONNECT);
  if (!manager) return problem("the service manager cannot be reached", GetLastError());
  SC_HANDLE handle = OpenServiceW(manager, service, SERVICE_CHANGE_CONFIG);
  if (!handle) return problem("the service cannot be opened", GetLastError());
  DWORD same = SERVICE_NO_CHANGE;
  if (!ChangeServiceConfigW(handle, same, same, same, NULL, NULL, NULL, NULL, account, password, NULL))
    return problem("the account cannot be set", GetLastError());
  SecureZeroMemory(password, sizeof password);
  return 0;
}

int wmain(void) {
  static wchar_t word[MAX_PATH * 4];
  wchar_t *at = next_word(GetCommandLineW(), word, MAX_PATH * 4);
  while (*at) {
    at = next_word(at, word, MAX_PATH * 4);
    if (!wcscmp(word, L"--")) {
      while (*at == L' ') at++;
      command = at;
      break;
    }
    if (!wcscmp(word, L"--set-account")) {
      at = next_word(at, name, sizeof name / sizeof *name);
      next_word(at, word, MAX_PATH * 4);
      return set_account(name, word);
    }
    if (!wcscmp(word, L"--name")) at = next_word(at, name, sizeof name / sizeof *name);
    else if (!wcscmp(word, L"--log")) at = next_word(at, log_file, MAX_PATH * 4);
    else if (!wcscmp(word, L"--drain-seconds")) {
      at = next_word(at, word, MAX_PATH * 4);
      drain_seconds = wcstoul(word, NULL, 10);
    }
  }
  if (!command || !*command) return ERROR_BAD_ARGUMENTS;
  stop_event = CreateEventW(NULL, TRUE, FALSE, NULL);
  SERVICE_TABLE_ENTRYW table[] = {{name, service_main}, {NULL, NULL}};
  return StartServiceCtrlDispatcherW(table) ? 0 : (int)GetLastError();
}
