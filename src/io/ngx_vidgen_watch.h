#ifndef _NGX_VIDGEN_WATCH_H_INCLUDED_
#define _NGX_VIDGEN_WATCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


/*
 * Watches a descriptor that belongs to a library on nginx's event loop.
 * Level-triggered, because such libraries read once per call; and the
 * descriptor is never closed here.
 */

#define NGX_VIDGEN_WATCH_READ   1
#define NGX_VIDGEN_WATCH_WRITE  2

typedef struct ngx_vidgen_watch_s  ngx_vidgen_watch_t;

/*
 * ready: READ or WRITE, which of them fired (an error fires what is watched).
 * It may set, drop or forget the watch.
 */
typedef void (*ngx_vidgen_watch_handler_pt)(ngx_vidgen_watch_t *watch,
    ngx_uint_t ready);

struct ngx_vidgen_watch_s {
    /* set by the owner before the first use */
    ngx_vidgen_watch_handler_pt   handler;
    void                         *data;
    ngx_log_t                    *log;

    /* the watch's own */
    ngx_connection_t             *connection;    /* NULL: watches nothing */
};


/*
 * Watches fd for events (READ, WRITE or both; 0 keeps fd, but silently) from
 * now on and for nothing else.  NGX_ERROR: logged, nothing is watched.
 */
ngx_int_t ngx_vidgen_watch_set(ngx_vidgen_watch_t *watch, ngx_socket_t fd,
    ngx_uint_t events);

/* Ends the watch of a descriptor that is still open. */
void ngx_vidgen_watch_drop(ngx_vidgen_watch_t *watch);

/* Ends the watch of a descriptor that its owner has closed already. */
void ngx_vidgen_watch_forget(ngx_vidgen_watch_t *watch);

/*
 * idle: a graceful shutdown of the process may end it; the handler is called
 * with READ when that begins.
 */
void ngx_vidgen_watch_idle(ngx_vidgen_watch_t *watch, ngx_uint_t idle);


#endif /* _NGX_VIDGEN_WATCH_H_INCLUDED_ */
