#!/bin/sh
# Stands in for the programs of become plugins, by its name: finds the account and the command among its words as that
# would, asks for the password where --ask is among them, and becomes the account by sudo.
name=${0##*/} user=root prompt='Password: ' fail='Sorry, try again.' ask=
case $name in
  ksu) prompt="Kerberos password for who@REALM: " fail='Password incorrect' ;;
  pmrun) prompt='Enter UPM user password:' ;;
  sesu) prompt='Please enter your password:' fail='Sorry, try again with sesu.' ;;
  pbrun) prompt='Password:' ;;
  machinectl|run0) fail='==== AUTHENTICATION FAILED ====' ;;
esac
while [ $# -gt 0 ]; do
  case $1 in
    -u) user=$2; shift 2 ;;
    -p) prompt=$2; shift 2 ;;
    --user=*) user=${1#--user=}; shift ;;
    --ask) ask=1; shift ;;
    -[ec]) shift; break ;;
    shell) shift ;;
    *@) user=${1%@}; shift; break ;;
    -*) shift ;;
    *) case $name in
         ksu|sesu) user=$1; shift ;;
         *) break ;;
       esac ;;
  esac
done
if [ -n "$ask" ]; then
  [ ! -t 0 ] || stty -echo
  printf %s "$prompt" >&2
  read -r answer
  if [ "$answer" != "open sesame" ]; then
    echo "$fail" >&2
    exit 1
  fi
fi
[ $# -gt 1 ] || set -- /bin/sh -c "$1"
exec sudo -n -H -u "$user" "$@"
