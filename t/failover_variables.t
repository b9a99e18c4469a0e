#!/usr/bin/perl

# nginx's own variables in a definition and in the location that passes a
# request on: what "set", auth_request_set or a named capture gave a value to
# keeps it for each attempt; what is made of $vidgen_* is made anew, also if
# it was evaluated before; of the client's headers nothing slips in.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 23;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(root slurp);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $standin = VidgenTest::Provider->new;
$standin->on(qr{ /auth$}, status => 204, body => '',
    headers => { 'X-Tier' => 'from-auth' });
$standin->on(qr{ /a/}, status => 503);

my $pass = slurp(root() . '/providers/vidgen_pass.conf');
$pass =~ s/(\n +internal;\n)/$1
        proxy_set_header  X-Pass-Set      \$tier;
        proxy_set_header  X-Pass-Auth     \$auth_tier;
        proxy_set_header  X-Pass-Account  \$account;
        proxy_set_header  X-Pass-Client   \$http_x_key;
/ or die 'no location';

my $nginx = VidgenTest::Nginx->new(
    vars   => { DB => $pg->edge_conninfo, BASE => $standin->url,
        PASS => $pass },
    config => <<'EOC')->start;
%%GLOBALS%%

worker_processes 1;

events { }

http {
    %%HTTP%%

    map "$vidgen_provider $vidgen_model" $name {
        "~^(?<letter>[a-z]) plain$"  $letter-calls-it;
        default                      none;
    }
    map "$name $auth_tier" $account {
        default  "$name $auth_tier";
    }
    map $http_x_kind $kind {
        default  kind-$http_x_kind;
    }

    vidgen_database "%%DB%%";
    vidgen_monitor  off;

    vidgen_provider a {
        base %%BASE%%;
        submit {
            url     $vidgen_base/a/$word?tier=$tier&name=$name;
            header  X-Tier     $tier;
            header  X-Server   $server;
            header  X-Auth     $auth_tier;
            header  X-Only     $auth_only;
            header  X-Kind     $http_x_kind;
            header  X-Account  $account;
            header  X-Request  $request_id;
            header  X-Key      key-of-a;
            body    /tier      $tier;
            body    /auth      $auth_tier;
            body    /name      $name;
            body    /kind      $kind;
            job_id  /request_id;
        }
    }
    vidgen_provider b {
        base %%BASE%%;
        submit {
            url     $vidgen_base/b/$word?tier=$tier&name=$name;
            header  X-Request  $request_id;
            header  X-Account  $account;
            body    /name      $name;
            job_id  /request_id;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        set $server from-server;

        vidgen_retry                  attempts=1;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;

        %%PASS%%

        location = /auth {
            internal;
            proxy_method            GET;
            proxy_pass_request_body off;
            proxy_set_header        Content-Length "";
            proxy_pass              %%BASE%%/auth;
        }

        # all of it is evaluated before the generation
        location ~ ^/early/(?<word>[a-z]+)$ {
            set $tier         gold;
            set $auth_tier    "";
            set $http_x_kind  set;
            set $early        "$account $kind $request_id $http_x_key";

            auth_request     /auth;
            auth_request_set $auth_tier $upstream_http_x_tier;
            auth_request_set $auth_only $upstream_http_x_tier;
            add_header       X-Early "$1 $early" always;
            vidgen_generate  a b;
        }

        # and nothing
        location ~ ^/late/(?<word>[a-z]+)$ {
            set $tier        gold;
            auth_request     /auth;
            auth_request_set $auth_tier $upstream_http_x_tier;
            auth_request_set $auth_only $upstream_http_x_tier;
            vidgen_generate  a b;
        }

        # a generation after another one
        location ~ ^/again/(?<word>[a-z]+)$ {
            set $tier       gold;
            set $auth_tier  "";
            set $early      $name;
            error_page      502 = @again;
            vidgen_generate a;
        }
        location @again {
            set $early      $name;
            vidgen_generate b;
        }
    }
}
EOC

my $user = customer($pg, 100);
my $answer;

# The requests of one generation.
sub asked {
    my ($uri) = @_;

    $nginx->restart;                # both are healthy again
    $standin->forget_requests;
    $answer = post($nginx->url($uri), { user_id => $user,
        model_id => 'plain', prompt => 'p' },
        { 'X-Kind' => 'client', 'X-Key' => 'client' });
    return grep { $_->{uri} ne '/auth' } @{ $standin->requests };
}

for my $when (qw(early late)) {
    my ($first, $second) = asked("/$when/word");
    my $kind = $when eq 'early' ? 'set' : 'client';

    is($answer->{status}, 200, "$when: accepted by the second");
    is($first->{uri}, '/a/word?tier=gold&name=a-calls-it',
        '... the URL of the first');
    is($second->{uri}, '/b/word?tier=gold&name=b-calls-it',
        '... and of the second');
    is($first->{body}, qq({"tier":"gold","auth":"from-auth",)
        . qq("name":"a-calls-it","kind":"kind-$kind"}), '... the bodies');
    is($second->{body}, '{"name":"b-calls-it"}', '... both');

    my ($one, $two) = map { $_->{headers} } $first, $second;
    is_deeply([@$one{qw(x-tier x-server x-auth x-only x-kind)}],
        [qw(gold from-server from-auth from-auth), $kind],
        '... the headers of the first');
    is_deeply([map { $_->{'x-account'} } $one, $two],
        ['a-calls-it from-auth', 'b-calls-it from-auth'],
        '... what is made of both kinds');
    is_deeply([map { @$_{qw(x-pass-set x-pass-auth x-pass-account
        x-pass-client)} } $one, $two],
        ['gold', 'from-auth', 'a-calls-it from-auth', 'key-of-a',
         'gold', 'from-auth', 'b-calls-it from-auth', undef],
        '... also where it is passed on');

    next if $when eq 'late';

    my ($id) = $answer->{headers}{'x-early'} =~ /(\w{32})/;
    is_deeply([map { $_->{'x-request'} } $one, $two], [$id, $id],
        '... a value of the moment stays');
    is($answer->{headers}{'x-early'}, "word none  kind-set $id client",
        '... the request itself keeps its values');
}

my @got = asked('/again/word');
is_deeply([map { $_->{uri} =~ /name=(.*)/ } @got],
    ['a-calls-it', 'b-calls-it'], 'anew for a second generation');
is($got[1]{uri}, '/b/word?tier=gold&name=b-calls-it', '... the rest too');
is($answer->{status}, 200, '... which is accepted');

unlike($nginx->error_log, qr/uninitialized/, 'nothing is without a value');
is_deeply([wrong_books($pg)], [], 'the books are right');
