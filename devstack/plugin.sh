#!/bin/bash
# The DevStack plugin: the filter in front of the Cinder API.

# Save and restore the tracing of DevStack.
_XTRACE_ATTACHGUARD=$(set +o | grep xtrace)
set +o xtrace

ATTACHGUARD_DIR=${ATTACHGUARD_DIR:-$DEST/attachguard}

function install_attachguard {
    setup_develop "$ATTACHGUARD_DIR"
}

function configure_attachguard {
    attachguard paste --in-place "$CINDER_API_PASTE_INI"
    iniset "$CINDER_CONF" attachguard enforce "$ATTACHGUARD_ENFORCE"
}

function unconfigure_attachguard {
    if [[ -f "$CINDER_API_PASTE_INI" ]]; then
        attachguard paste --in-place --remove "$CINDER_API_PASTE_INI"
    fi
}

if is_service_enabled c-api; then
    if [[ "$1" == "stack" && "$2" == "install" ]]; then
        install_attachguard
    elif [[ "$1" == "stack" && "$2" == "post-config" ]]; then
        configure_attachguard
    elif [[ "$1" == "unstack" ]]; then
        unconfigure_attachguard
    fi
fi

$_XTRACE_ATTACHGUARD
