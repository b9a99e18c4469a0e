#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "io/ngx_vidgen_watch.h"


static ngx_int_t ngx_vidgen_watch_attach(ngx_vidgen_watch_t *watch,
    ngx_socket_t fd);
static void ngx_vidgen_watch_detach(ngx_vidgen_watch_t *watch,
    ngx_uint_t flags);
static ngx_int_t ngx_vidgen_watch_change(ngx_event_t *ev, ngx_int_t event,
    ngx_uint_t wanted);
static void ngx_vidgen_watch_event_handler(ngx_event_t *ev);


ngx_int_t
ngx_vidgen_watch_set(ngx_vidgen_watch_t *watch, ngx_socket_t fd,
    ngx_uint_t events)
{
    ngx_connection_t  *c;

    if (watch->connection && watch->connection->fd != fd) {
        ngx_vidgen_watch_drop(watch);
    }

    if (watch->connection == NULL
        && ngx_vidgen_watch_attach(watch, fd) != NGX_OK)
    {
        return NGX_ERROR;
    }

    c = watch->connection;

    if (ngx_vidgen_watch_change(c->read, NGX_READ_EVENT,
                                events & NGX_VIDGEN_WATCH_READ)
        != NGX_OK
        || ngx_vidgen_watch_change(c->write, NGX_WRITE_EVENT,
                                   events & NGX_VIDGEN_WATCH_WRITE)
           != NGX_OK)
    {
        ngx_vidgen_watch_drop(watch);
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_vidgen_watch_drop(ngx_vidgen_watch_t *watch)
{
    ngx_vidgen_watch_detach(watch, 0);
}


void
ngx_vidgen_watch_forget(ngx_vidgen_watch_t *watch)
{
    ngx_vidgen_watch_detach(watch, NGX_CLOSE_EVENT);
}


void
ngx_vidgen_watch_idle(ngx_vidgen_watch_t *watch, ngx_uint_t idle)
{
    if (watch->connection) {
        watch->connection->idle = idle ? 1 : 0;
    }
}


static ngx_int_t
ngx_vidgen_watch_attach(ngx_vidgen_watch_t *watch, ngx_socket_t fd)
{
    ngx_connection_t  *c;

    c = ngx_get_connection(fd, watch->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    c->data = watch;

    c->read->handler = ngx_vidgen_watch_event_handler;
    c->read->log = watch->log;

    c->write->handler = ngx_vidgen_watch_event_handler;
    c->write->log = watch->log;

    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);

    watch->connection = c;

    return NGX_OK;
}


static void
ngx_vidgen_watch_detach(ngx_vidgen_watch_t *watch, ngx_uint_t flags)
{
    ngx_connection_t  *c;

    c = watch->connection;

    if (c == NULL) {
        return;
    }

    watch->connection = NULL;

    if (c->read->active) {
        (void) ngx_del_event(c->read, NGX_READ_EVENT, flags);
    }

    if (c->write->active) {
        (void) ngx_del_event(c->write, NGX_WRITE_EVENT, flags);
    }

    if (c->read->posted) {
        ngx_delete_posted_event(c->read);
    }

    if (c->write->posted) {
        ngx_delete_posted_event(c->write);
    }

    c->read->closed = 1;
    c->write->closed = 1;

    /*
     * Not ngx_close_connection(), for it closes the descriptor.  A new watch
     * gets its connection anew, so that events of the old descriptor that
     * wait in this round of the loop are recognized as stale.
     */

    ngx_free_connection(c);

    c->fd = (ngx_socket_t) -1;
}


static ngx_int_t
ngx_vidgen_watch_change(ngx_event_t *ev, ngx_int_t event, ngx_uint_t wanted)
{
    if (wanted && !ev->active) {
        return ngx_add_event(ev, event, NGX_LEVEL_EVENT);
    }

    if (!wanted && ev->active) {
        return ngx_del_event(ev, event, 0);
    }

    return NGX_OK;
}


static void
ngx_vidgen_watch_event_handler(ngx_event_t *ev)
{
    ngx_connection_t    *c;
    ngx_vidgen_watch_t  *watch;

    c = ev->data;
    watch = c->data;

    watch->handler(watch, ev->write ? NGX_VIDGEN_WATCH_WRITE
                                    : NGX_VIDGEN_WATCH_READ);
}
