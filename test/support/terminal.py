"""Runs a program in a terminal of COLUMNS x ROWS: what it prints goes to stdout, what comes on stdin are keys."""
import fcntl, os, pty, select, struct, sys, termios

columns, rows, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
pid, terminal = pty.fork()
if pid == 0:
    # The size is set before the program asks for it.
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.execvp(program[0], program)
keys = True
while True:
    ready, _, _ = select.select([terminal] + ([0] if keys else []), [], [])
    if 0 in ready:
        typed = os.read(0, 65536)
        keys = len(typed) > 0
        if keys:
            os.write(terminal, typed)
    if terminal in ready:
        try:
            printed = os.read(terminal, 65536)
        except OSError:
            break
        if not printed:
            break
        os.write(1, printed)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status) & 255)
