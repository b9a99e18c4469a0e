#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "core/ngx_vidgen_secret.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_conf_block.h"


static char *ngx_http_vidgen_conf_name(ngx_conf_t *cf,
    ngx_array_t *providers, ngx_str_t *name);
static char *ngx_http_vidgen_conf_inside(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block, ngx_uint_t type);
static ngx_int_t ngx_http_vidgen_conf_new_submit(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);
static ngx_int_t ngx_http_vidgen_conf_new_poll(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);
static ngx_int_t ngx_http_vidgen_conf_new_webhook(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);
static ngx_int_t ngx_http_vidgen_conf_new_probe(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);


char *
ngx_http_vidgen_conf_provider(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_main_conf_t *vmcf = conf;

    char                      *rv;
    ngx_str_t                 *value;
    ngx_vidgen_provider_t     *provider, **pushed;
    ngx_http_vidgen_block_t    block;

    value = cf->args->elts;

    rv = ngx_http_vidgen_conf_name(cf, &vmcf->providers, &value[1]);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    provider = ngx_pcalloc(cf->pool, sizeof(ngx_vidgen_provider_t));
    if (provider == NULL) {
        return NGX_CONF_ERROR;
    }

    provider->name = value[1];
    provider->index = vmcf->providers.nelts;
    provider->crc = ngx_crc32_long(value[1].data, value[1].len);
    provider->file = cf->conf_file->file.name.data;
    provider->line = cf->conf_file->line;

    ngx_memzero(&block, sizeof(ngx_http_vidgen_block_t));

    block.provider = provider;
    block.part = NGX_HTTP_VIDGEN_PROVIDER_CONF;
    block.line = provider->line;

    if (ngx_http_vidgen_conf_inside(cf, &block, NGX_HTTP_VIDGEN_PROVIDER_CONF)
        != NGX_CONF_OK
        || ngx_http_vidgen_conf_finish_provider(cf, &block) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    pushed = ngx_http_vidgen_conf_push(cf, &vmcf->providers,
                                       sizeof(ngx_vidgen_provider_t *));
    if (pushed == NULL) {
        return NGX_CONF_ERROR;
    }

    *pushed = provider;

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_conf_name(ngx_conf_t *cf, ngx_array_t *providers,
    ngx_str_t *name)
{
    u_char                  ch;
    size_t                  i;
    ngx_vidgen_provider_t  *other;

    if (name->len == 0 || name->len > NGX_VIDGEN_PROVIDER_NAME_MAX) {
        return "needs a name of 1 to 63 characters";
    }

    for (i = 0; i < name->len; i++) {
        ch = name->data[i];

        if (((ch | 0x20) < 'a' || (ch | 0x20) > 'z') && (ch < '0' || ch > '9')
            && ch != '.' && ch != '_' && ch != '-')
        {
            return ngx_http_vidgen_conf_message(cf,
                       "has a name with other characters than letters, "
                       "digits, \".\", \"_\" and \"-\": \"%V\"", name);
        }
    }

    if (ngx_vidgen_provider_find(providers, name)) {
        return ngx_http_vidgen_conf_message(cf, "is duplicate: \"%V\"", name);
    }

    /* the shared zone knows providers by the CRC alone */

    other = ngx_vidgen_provider_find_crc(providers,
                                    ngx_crc32_long(name->data, name->len));
    if (other) {
        return ngx_http_vidgen_conf_message(cf,
                   "needs another name than \"%V\", which cannot be told "
                   "from \"%V\" by its CRC", name, &other->name);
    }

    return NGX_CONF_OK;
}


/* cf->ctx stays, so that variables are found */

static char *
ngx_http_vidgen_conf_inside(ngx_conf_t *cf, ngx_http_vidgen_block_t *block,
    ngx_uint_t type)
{
    char        *rv;
    ngx_conf_t   save;

    save = *cf;

    cf->cmd_type = type;
    cf->handler_conf = block;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    return rv;
}


char *
ngx_http_vidgen_conf_part(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                     *rv;
    ngx_int_t                 rc;
    ngx_http_vidgen_block_t  *block;

    block = ngx_http_vidgen_conf_block(cf);

    block->part = cmd->offset;
    block->line = cf->conf_file->line;
    block->body_line = 0;
    block->body = NULL;

    switch (block->part) {

    case NGX_HTTP_VIDGEN_SUBMIT_CONF:
        rc = ngx_http_vidgen_conf_new_submit(cf, block);
        break;

    case NGX_HTTP_VIDGEN_POLL_CONF:
        rc = ngx_http_vidgen_conf_new_poll(cf, block);
        break;

    case NGX_HTTP_VIDGEN_WEBHOOK_CONF:
        rc = ngx_http_vidgen_conf_new_webhook(cf, block);
        break;

    default: /* NGX_HTTP_VIDGEN_PROBE_CONF */
        rc = ngx_http_vidgen_conf_new_probe(cf, block);
        break;
    }

    if (rc != NGX_OK) {
        return rc == NGX_DECLINED ? "is duplicate" : NGX_CONF_ERROR;
    }

    if (block->reading) {
        block->reading->api_key = &block->provider->api_key;
    }

    rv = ngx_http_vidgen_conf_inside(cf, block, block->part);

    if (rv == NGX_CONF_OK) {
        rv = ngx_http_vidgen_conf_finish_part(cf, block);
    }

    block->part = NGX_HTTP_VIDGEN_PROVIDER_CONF;
    block->line = block->provider->line;
    block->request = NULL;
    block->reading = NULL;
    ngx_memzero(block->lists, sizeof(block->lists));

    return rv;
}


static ngx_int_t
ngx_http_vidgen_conf_new_submit(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block)
{
    ngx_vidgen_submit_t  *submit;

    if (block->provider->submit) {
        return NGX_DECLINED;
    }

    submit = ngx_pcalloc(cf->pool, sizeof(ngx_vidgen_submit_t));
    if (submit == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&submit->request.method, "POST");

    block->provider->submit = submit;
    block->request = &submit->request;
    block->reading = &submit->reading;
    block->lists[NGX_HTTP_VIDGEN_ACCEPT] = &submit->accept;
    block->lists[NGX_HTTP_VIDGEN_REFUSE] = &submit->refuse;
    block->lists[NGX_HTTP_VIDGEN_RETRY] = &submit->retry;
    block->lists[NGX_HTTP_VIDGEN_KEEP] = &submit->keep;
    block->lists[NGX_HTTP_VIDGEN_REFUSED] = &submit->refused;
    block->lists[NGX_HTTP_VIDGEN_UNKNOWN] = &submit->unknown;

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_conf_new_poll(ngx_conf_t *cf, ngx_http_vidgen_block_t *block)
{
    ngx_vidgen_poll_t  *poll;

    if (block->provider->poll) {
        return NGX_DECLINED;
    }

    poll = ngx_pcalloc(cf->pool, sizeof(ngx_vidgen_poll_t));
    if (poll == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&poll->request.method, "GET");

    block->provider->poll = poll;
    block->request = &poll->request;
    block->reading = &poll->reading;
    block->lists[NGX_HTTP_VIDGEN_ACCEPT] = &poll->accept;
    block->lists[NGX_HTTP_VIDGEN_REFUSE] = &poll->refuse;
    block->lists[NGX_HTTP_VIDGEN_RETRY] = &poll->retry;
    block->lists[NGX_HTTP_VIDGEN_KEEP] = &poll->keep;

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_conf_new_webhook(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block)
{
    ngx_vidgen_webhook_t  *webhook;

    if (block->provider->webhook) {
        return NGX_DECLINED;
    }

    webhook = ngx_pcalloc(cf->pool, sizeof(ngx_vidgen_webhook_t));
    if (webhook == NULL) {
        return NGX_ERROR;
    }

    block->webhook_line = block->line;
    block->provider->webhook = webhook;
    block->reading = &webhook->reading;

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_conf_new_probe(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block)
{
    ngx_vidgen_probe_t  *probe;

    if (block->provider->probe) {
        return NGX_DECLINED;
    }

    probe = ngx_pcalloc(cf->pool, sizeof(ngx_vidgen_probe_t));
    if (probe == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&probe->request.method, "GET");

    block->provider->probe = probe;
    block->request = &probe->request;
    block->lists[NGX_HTTP_VIDGEN_OK] = &probe->ok;

    return NGX_OK;
}


char *
ngx_http_vidgen_conf_base(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_int_t                 rc;
    ngx_str_t                *value, *base;
    ngx_uint_t                i;
    ngx_http_vidgen_block_t  *block;

    block = ngx_http_vidgen_conf_block(cf);
    value = cf->args->elts;
    base = &block->provider->base;

    if (base->data) {
        return "is duplicate";
    }

    rc = NGX_DECLINED;

    for (i = 1; rc == NGX_DECLINED && i < cf->args->nelts; i++) {
        rc = ngx_vidgen_secret_read(cf, &value[i], base);
    }

    if (rc == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    if (rc == NGX_DECLINED) {
        return "has no value: nothing that it lists is set";
    }

    while (base->len && base->data[base->len - 1] == '/') {
        base->len--;
    }

    if (ngx_vidgen_url_origin(base) == 0 || !ngx_vidgen_url_is_clean(base)
        || ngx_vidgen_url_path_end(base) < base->len
        || ngx_vidgen_url_check_path(base, ngx_vidgen_url_origin(base), 0)
           != NGX_OK)
    {
        return "must be a URL \"http://host\" or \"https://host\" with or "
               "without a path, and without user and arguments";
    }

    return NGX_CONF_OK;
}


char *
ngx_http_vidgen_conf_api_key(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_int_t                 rc;
    ngx_str_t                *value, *key;
    ngx_http_vidgen_block_t  *block;

    block = ngx_http_vidgen_conf_block(cf);
    value = cf->args->elts;
    key = &block->provider->api_key;

    if (key->data) {
        return "is duplicate";
    }

    rc = ngx_vidgen_secret_read(cf, &value[1], key);

    if (rc == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    if (rc == NGX_DECLINED) {

        /* not a literal, so it may be shown */

        return ngx_http_vidgen_conf_message(cf, "is missing: \"%V\" is not "
                                            "set or empty", &value[1]);
    }

    if (ngx_vidgen_text_has_control(key)) {
        return "has control characters";
    }

    return NGX_CONF_OK;
}
