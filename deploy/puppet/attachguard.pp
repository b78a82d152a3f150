# The filter in the api-paste.ini and cinder.conf of puppet-cinder. Install the
# package attachguard in Cinder's Python environment before.
$pipeline = 'request_id cors http_proxy_to_wsgi faultwrap sizelimit osprofiler authtoken keystonecontext attachguard apiv3'

class { 'cinder::config':
  api_paste_ini_config => {
    'composite:openstack_volume_api_v3/keystone'         => {
      value => $pipeline,
    },
    'composite:openstack_volume_api_v3/keystone_nolimit' => {
      value => $pipeline,
    },
    'filter:attachguard/paste.filter_factory'            => {
      value => 'attachguard.filter:filter_factory',
    },
  },
  cinder_config        => {
    'attachguard/enforce' => { value => false },
  },
}
