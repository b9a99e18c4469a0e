#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "core/ngx_vidgen_keyring.h"
#include "shm/ngx_vidgen_relay.h"


#define NGX_VIDGEN_KEYRING_PERIOD  500       /* ms between looks at the zone */


typedef struct {
    ngx_vidgen_provider_t       *provider;
    ngx_str_t                    file;
    ngx_pool_t                  *pool;       /* of the keys; NULL: none read */
    ngx_array_t                  own;        /* keys of the configuration */
    uint32_t                     version;
} ngx_vidgen_keyring_t;

typedef struct {
    ngx_vidgen_monitor_conf_t   *conf;
    ngx_log_t                   *log;
    ngx_array_t                  rings;      /* of ngx_vidgen_keyring_t */
    ngx_event_t                  timer;      /* cancelable */

    /* for the timer: a debug log reads ev->data as a connection */
    ngx_connection_t             ident;
} ngx_vidgen_keyrings_t;


static ngx_int_t ngx_vidgen_keyring_add(ngx_cycle_t *cycle,
    ngx_vidgen_keyrings_t *rings, ngx_vidgen_provider_t *provider);
static void ngx_vidgen_keyring_timer(ngx_event_t *ev);
static void ngx_vidgen_keyring_load(ngx_vidgen_keyrings_t *rings,
    ngx_vidgen_keyring_t *ring);
static ngx_int_t ngx_vidgen_keyring_keys(ngx_vidgen_keyrings_t *rings,
    ngx_vidgen_keyring_t *ring, ngx_pool_t *pool, ngx_array_t *keys);
static ngx_int_t ngx_vidgen_keyring_read(ngx_vidgen_keyrings_t *rings,
    ngx_vidgen_keyring_t *ring, ngx_pool_t *pool, ngx_str_t *text);


static ngx_vidgen_keyrings_t  *ngx_vidgen_keyrings;


ngx_int_t
ngx_vidgen_keyring_file(ngx_pool_t *pool, ngx_vidgen_monitor_conf_t *conf,
    ngx_vidgen_provider_t *provider, ngx_str_t *file)
{
    file->data = ngx_pnalloc(pool, conf->path->name.len + provider->name.len
                                   + sizeof("/.jwks.json"));
    if (file->data == NULL) {
        return NGX_ERROR;
    }

    file->len = ngx_sprintf(file->data, "%V/%V.jwks.json", &conf->path->name,
                            &provider->name)
                - file->data;
    file->data[file->len] = '\0';

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_keyring_start(ngx_cycle_t *cycle, ngx_vidgen_monitor_conf_t *conf)
{
    ngx_uint_t               i;
    ngx_vidgen_provider_t  **provider;
    ngx_vidgen_keyrings_t   *rings;

    ngx_vidgen_keyrings = NULL;

    if (conf->providers == NULL) {
        return NGX_OK;
    }

    rings = ngx_pcalloc(cycle->pool, sizeof(ngx_vidgen_keyrings_t));

    if (rings == NULL
        || ngx_array_init(&rings->rings, cycle->pool, 2,
                          sizeof(ngx_vidgen_keyring_t))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    rings->conf = conf;
    rings->log = cycle->log;
    provider = conf->providers->elts;

    for (i = 0; i < conf->providers->nelts; i++) {
        if (provider[i]->webhook && provider[i]->webhook->scheme.jwks.len
            && ngx_vidgen_keyring_add(cycle, rings, provider[i]) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (rings->rings.nelts == 0) {
        return NGX_OK;
    }

    rings->ident.fd = (ngx_socket_t) -1;
    rings->timer.handler = ngx_vidgen_keyring_timer;
    rings->timer.data = &rings->ident;
    rings->timer.log = rings->log;
    rings->timer.cancelable = 1;

    ngx_add_timer(&rings->timer, NGX_VIDGEN_KEYRING_PERIOD);

    ngx_vidgen_keyrings = rings;

    return NGX_OK;
}


static ngx_int_t
ngx_vidgen_keyring_add(ngx_cycle_t *cycle, ngx_vidgen_keyrings_t *rings,
    ngx_vidgen_provider_t *provider)
{
    time_t                 asked;
    ngx_vidgen_keyring_t  *ring;

    ring = ngx_array_push(&rings->rings);
    if (ring == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(ring, sizeof(ngx_vidgen_keyring_t));

    ring->provider = provider;
    ring->own = provider->webhook->scheme.keys;
    ring->version = ngx_vidgen_relay_keys(rings->conf->zone, &provider->name,
                                          &asked);

    if (ngx_vidgen_keyring_file(cycle->pool, rings->conf, provider,
                                &ring->file)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_vidgen_keyring_load(rings, ring);

    return NGX_OK;
}


void
ngx_vidgen_keyring_stop(void)
{
    ngx_uint_t             i;
    ngx_vidgen_keyring_t  *ring;

    if (ngx_vidgen_keyrings == NULL) {
        return;
    }

    if (ngx_vidgen_keyrings->timer.timer_set) {
        ngx_del_timer(&ngx_vidgen_keyrings->timer);
    }

    ring = ngx_vidgen_keyrings->rings.elts;

    for (i = 0; i < ngx_vidgen_keyrings->rings.nelts; i++) {

        ring[i].provider->webhook->scheme.keys = ring[i].own;

        if (ring[i].pool) {
            ngx_destroy_pool(ring[i].pool);
        }
    }

    ngx_vidgen_keyrings = NULL;
}


static void
ngx_vidgen_keyring_timer(ngx_event_t *ev)
{
    time_t                  asked;
    uint32_t                version;
    ngx_uint_t              i;
    ngx_vidgen_keyring_t   *ring;
    ngx_vidgen_keyrings_t  *rings;

    rings = ngx_queue_data(ev, ngx_vidgen_keyrings_t, timer);
    ring = rings->rings.elts;

    for (i = 0; i < rings->rings.nelts; i++) {

        version = ngx_vidgen_relay_keys(rings->conf->zone,
                                        &ring[i].provider->name, &asked);

        if (version != ring[i].version) {
            ring[i].version = version;
            ngx_vidgen_keyring_load(rings, &ring[i]);
        }
    }

    ngx_add_timer(&rings->timer, NGX_VIDGEN_KEYRING_PERIOD);
}


/*
 * The keys of a scheme are looked at within one event only, so they may be
 * exchanged here, between two.
 */
static void
ngx_vidgen_keyring_load(ngx_vidgen_keyrings_t *rings,
    ngx_vidgen_keyring_t *ring)
{
    ngx_pool_t   *pool;
    ngx_array_t   keys;

    pool = ngx_create_pool(1024, rings->log);
    if (pool == NULL) {
        return;
    }

    if (ngx_vidgen_keyring_keys(rings, ring, pool, &keys) != NGX_OK) {
        ngx_destroy_pool(pool);
        return;
    }

    ring->provider->webhook->scheme.keys = keys;

    if (ring->pool) {
        ngx_destroy_pool(ring->pool);
    }

    ring->pool = pool;
}


static ngx_int_t
ngx_vidgen_keyring_keys(ngx_vidgen_keyrings_t *rings,
    ngx_vidgen_keyring_t *ring, ngx_pool_t *pool, ngx_array_t *keys)
{
    void        **key;
    ngx_int_t     rc;
    ngx_str_t     text;
    ngx_uint_t    i;
    const char   *reason;

    rc = ngx_vidgen_keyring_read(rings, ring, pool, &text);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_array_init(keys, pool, 4, sizeof(ngx_vidgen_key_t *)) != NGX_OK) {
        return NGX_ERROR;
    }

    for (i = 0; i < ring->own.nelts; i++) {
        key = ngx_array_push(keys);
        if (key == NULL) {
            return NGX_ERROR;
        }

        *key = ((void **) ring->own.elts)[i];
    }

    reason = NULL;
    rc = ngx_vidgen_scheme_load_jwks(pool, &text, keys, &reason);

    if (rc == NGX_DECLINED) {
        ngx_log_error(NGX_LOG_ERR, rings->log, 0,
                      "vidgen: the key set \"%V\" is of no use: %s",
                      &ring->file, reason ? reason : "");
    }

    return rc;
}


/* NGX_DECLINED: there is none yet */
static ngx_int_t
ngx_vidgen_keyring_read(ngx_vidgen_keyrings_t *rings,
    ngx_vidgen_keyring_t *ring, ngx_pool_t *pool, ngx_str_t *text)
{
    ssize_t    n;
    ngx_fd_t   fd;

    text->data = ngx_pnalloc(pool, NGX_VIDGEN_KEYRING_MAX);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    fd = ngx_open_file(ring->file.data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {

        if (ngx_errno != NGX_ENOENT) {
            ngx_log_error(NGX_LOG_CRIT, rings->log, ngx_errno,
                          "vidgen: " ngx_open_file_n " \"%V\" failed",
                          &ring->file);
        }

        return NGX_DECLINED;
    }

    n = ngx_read_fd(fd, text->data, NGX_VIDGEN_KEYRING_MAX);

    if (n < 0) {
        ngx_log_error(NGX_LOG_CRIT, rings->log, ngx_errno,
                      "vidgen: " ngx_read_fd_n " \"%V\" failed", &ring->file);
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_WARN, rings->log, ngx_errno,
                      "vidgen: " ngx_close_file_n " \"%V\" failed",
                      &ring->file);
    }

    text->len = n < 0 ? 0 : n;

    return n < 0 ? NGX_DECLINED : NGX_OK;
}
