# What the packages do besides bringing files; put in front of each of their scripts. Works in dash, and without a running systemd.
# Nothing here knows any other service than this one: a GitLab Runner or an older runner on the same machine is left alone.
SERVICE=alloy-runner.service
ACCOUNT=alloy-runner
COMMENT="CI jobs of alloy-runner"

# Is systemd at work here? In a chroot or an image build it is not.
booted() { [ -d /run/systemd/system ]; }

# A unit in /etc wins over that of the package: one by "alloy-runner install" or of the Go runner.
overridden() { [ -e "/etc/systemd/system/$SERVICE" ] && [ ! -L "/etc/systemd/system/$SERVICE" ]; }

property() { systemctl show --property="$1" "$SERVICE" | cut -d= -f2; }

# Does the runner that runs know how to hand its jobs over? Of the signals that it catches, a bit each in hexadecimal, SIGUSR2 is the
# highest in the third digit from the end. A version that does not catch it would be ended by it, and its jobs with it.
knows_hand_over() {
  case $(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$(property MainPID)/status" 2>/dev/null) in
    *[89abcdef]??) return 0 ;;
  esac
  return 1
}

# The new program takes the place of the running one, in the background.
take_over() {
  if ! systemctl --quiet is-active "$SERVICE"; then
    systemctl daemon-reload || true
  elif knows_hand_over; then
    # Durable jobs go on, others finish first.
    systemctl daemon-reload || true
    systemctl --no-block try-restart "$SERVICE" || true
  elif [ "$(property RestartKillSignal)" = 12 ]; then
    # Somebody else has loaded the new unit, by which a restart is that signal. Once it has drained it is started again.
    systemctl kill --kill-who=main --signal=SIGQUIT "$SERVICE" || true
  else
    # All jobs finish first. The old unit says so, and is in force until it has been said.
    systemctl --no-block try-restart "$SERVICE" || true
    tries=0
    while [ "$(property ActiveState)" = active ] && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
    systemctl daemon-reload || true
  fi
}

# $1: first | upgrade
after_install() {
  if ! getent passwd "$ACCOUNT" >/dev/null; then
    # No files from /etc/skel: a .bash_logout there can fail jobs.
    useradd --system --user-group --no-create-home --home-dir "/home/$ACCOUNT" --shell /bin/bash \
      --comment "$COMMENT" "$ACCOUNT"
    install -d -m 0750 -o "$ACCOUNT" -g "$ACCOUNT" "/home/$ACCOUNT"
  fi
  install -d -m 0700 /etc/alloy-runner
  if overridden; then
    echo "alloy-runner: /etc/systemd/system/$SERVICE is in force instead of this package's unit; to change over:" >&2
    echo "  systemctl disable --now $SERVICE && rm /etc/systemd/system/$SERVICE && systemctl daemon-reload && systemctl enable --now $SERVICE" >&2
    return 0
  fi
  if [ "$1" = first ]; then
    if booted; then systemctl daemon-reload || true; fi
    if command -v systemctl >/dev/null; then systemctl --quiet enable "$SERVICE" || true; fi
    if ! booted; then return 0; fi
    # Where an administrator forbids packages to start services, deb-systemd-invoke obeys.
    if command -v deb-systemd-invoke >/dev/null; then deb-systemd-invoke start "$SERVICE" || true
    else systemctl start "$SERVICE" || true; fi
  elif booted; then
    take_over
  fi
}

# The package is about to go: jobs are ended and reported, which takes half a minute at most.
before_remove() {
  if overridden || ! command -v systemctl >/dev/null; then return 0; fi
  if booted && systemctl --quiet is-active "$SERVICE"; then
    systemctl --no-block stop "$SERVICE" || true
    systemctl kill --kill-who=main --signal=SIGTERM "$SERVICE" 2>/dev/null || true
    systemctl stop "$SERVICE" || true
  fi
  systemctl --quiet disable "$SERVICE" || true
}

after_remove() {
  if booted; then
    systemctl daemon-reload || true
    systemctl --quiet reset-failed "$SERVICE" 2>/dev/null || true
  fi
}

# Configuration, state, account and working copies; the account only if a package made it.
purge() {
  rm -rf /etc/alloy-runner /var/lib/alloy-runner /run/alloy-runner
  if [ "$(getent passwd "$ACCOUNT" | cut -d: -f5)" = "$COMMENT" ]; then
    userdel "$ACCOUNT" >/dev/null 2>&1 || true
    rm -rf "/home/$ACCOUNT"
  fi
}
